{% if HALF %}
enable f16;
{% endif %}
{% if COOPERATIVE %}
enable wgpu_cooperative_matrix;
{% endif %}

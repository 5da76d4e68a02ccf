{% if HALF %}
enable f16;
{% endif %}

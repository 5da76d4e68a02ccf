// The padded copy of pad_rows.wgsl for pictures whose rows are whole vectors: an invocation takes a row of the copy, and
// loads each vector of the picture once. Its own loads and stores are all that it does: shifts cost nothing beside them.
//
// Definitions: SHIFT, how many pixels of the first vector of the picture lie before the copy's first.

{% set COMPONENTS = "xyzw" %}

@group(0) @binding(1) var<storage, read> source_vectors: array<vec4<f32>>;

// A vector of a row of the picture; beyond its ends zeros. An index below 0 wraps and is beyond any side.
fn vector_at(row_at: u32, x: u32, row_inside: bool) -> vec4<f32> {
    let inside = row_inside & (x < params.source_w / 4u);
    return select(vec4(0.0), source_vectors[select(0u, row_at + x, inside)], inside);
}

@compute @workgroup_size(8)
fn pad_vectors(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let rows = params.padded_h;
    let last = params.samples * params.source_count * rows - 1u;
    // Rows beyond the last one write it again.
    let i = min(flat_invocation(group, groups, lane, 8u), last);
    let plane = quotient(i, rows);
    let sample = quotient(plane, params.source_count);
    let channel = params.source_first + plane - sample * params.source_count;
    let y = i - plane * rows - params.padding_h;
    let inside = y < params.source_h;
    let from_row = params.source_skip / 4u
        + ((sample * params.source_channels + channel) * params.source_h + y) * (params.source_w / 4u);
    let vectors = params.padded_w / 4u;
    let first = 0u - params.origin_w;
    let to = i * vectors;
    {% if SHIFT %}
    var before = vector_at(from_row, first, inside);
    for (var v = 0u; v < vectors; v++) {
        let next = vector_at(from_row, first + v + 1u, inside);
        copied[to + v] = vec4(
            {%- for j in range(4) %}{{ "before" if j + SHIFT < 4 else "next" }}.{{ COMPONENTS[(j + SHIFT) % 4] }}{{ ", " if not loop.last }}{% endfor %});
        before = next;
    }
    {% else %}
    for (var v = 0u; v < vectors; v++) {
        copied[to + v] = vector_at(from_row, first + v, inside);
    }
    {% endif %}
}

// The matrix products of minimal filtering in tiles (see winograd_tiles.wgsl), one for each place in a tile of pixels:
//
//   products[place, k, tile] = Σ_c filters[place, c, k] · transformed[place, c, tile]
//
// All three lie in one buffer, which a dispatch may not see both as `read` and as `read_write`.

struct WinogradProductsParams {
    // Channels of the result, tiles (whole vectors of them), channels of the source.
    rows: u32,
    columns: u32,
    depth: u32,
    // Elements of the depth that are summed up: all.
    slice: u32,
}

@group(0) @binding(0) var<uniform> params: WinogradProductsParams;
@group(0) @binding(14) var<storage, read_write> left: array<vec4<f32>>;
@group(0) @binding(15) var<storage, read_write> right: array<vec4<f32>>;
@group(0) @binding(16) var<storage, read_write> result: array<vec4<f32>>;

{% for side, SIDE, line, parts in [("left", "LEFT", "row", LEFT_PARTS), ("right", "RIGHT", "column", RIGHT_PARTS)] %}
{% set Parts = "LeftParts" if side == "left" else "RightParts" %}
// What an invocation loads: one quad of {{ line }}s at several depths. Quads beyond the last repeat it; nobody reads
// their results.
fn {{ side }}_across(place: Place, product: u32, first: u32, lane: u32) -> {{ Parts }} {
    let quads = (params.{{ line }}s + 3u) / 4u;
    let at = product * params.depth * quads + min(place.{{ line }} / 4u + lane % {{ SIDE }}_QUADS, quads - 1u);
    var parts: {{ Parts }};
    {% for part in range(parts) %}
    let depth_{{ part }} = first + lane / {{ SIDE }}_QUADS + LANES / {{ SIDE }}_QUADS * {{ part }}u;
    if depth_{{ part }} < place.end {
        parts[{{ part }}] = {{ side }}[at + depth_{{ part }} * quads];
    }
    {% endfor %}
    return parts;
}

{% endfor %}
// Products in z: those workgroups run at the same time that read the same operands.
@compute @workgroup_size(LANES)
fn products(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(vec3(group.xy, 0u), groups);
    {{- declare_sums() }}
    var left_parts = left_across(place, group.z, place.begin, lane);
    var right_parts = right_across(place, group.z, place.begin, lane);
    for (var first = place.begin; first < place.end; first += TILE_DEPTH) {
        workgroupBarrier();
        keep_left_across(left_parts, lane);
        keep_right_across(right_parts, lane);
        workgroupBarrier();
        left_parts = left_across(place, group.z, first + TILE_DEPTH, lane);
        right_parts = right_across(place, group.z, first + TILE_DEPTH, lane);
        {{- multiply("across", "across") }}
    }
    {{- finish_sums() }}
    {% for q in range(SUM_QUADS) %}
    let column_{{ q }} = column_of(place, lane, {{ q }}u);
    {% endfor %}
    {% for r in range(SUM_ROWS) %}
    let row_{{ r }} = row_of(place, lane, {{ r }}u);
    if row_{{ r }} < params.rows {
        let at = (group.z * params.rows + row_{{ r }}) * params.columns;
        {% for q in range(SUM_QUADS) %}
        if column_{{ q }} < params.columns {
            result[(at + column_{{ q }}) / 4u] = sums[{{ SUM_QUADS * r + q }}];
        }
        {% endfor %}
    }
    {% endfor %}
}

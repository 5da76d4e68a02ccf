// The transforms of minimal filtering (see winograd_lines.wgsl) for GPUs; the products between them are in
// winograd_products.wgsl:
//
//   transform_filters   filters of `w` to G g Gᵀ: place × channel of the source × channel of the result
//   transform_source    the source to Bᵀ d B: place × channel of the source × tile
//   forward,            Aᵀ · products · A, from place × channel of the result × tile to where the results belong
//   backward_input
//
// An invocation has one filter, or one tile of one channel. Neighbouring invocations have neighbouring ones, which lie
// side by side in scratch memory; rows there are whole vectors, so that the products load and store nothing else.
//
// Definitions: OUT, 2 or 4; ABREAST, 1; ALIGNED, whether results are written as whole vectors.

@group(0) @binding(15) var<storage, read_write> filters: array<f32>;
@group(0) @binding(15) var<storage, read_write> transformed: array<f32>;
@group(0) @binding(14) var<storage, read> finished: array<f32>;

fn tiles_across() -> u32 {
    return (params.grid_w + {{ OUT - 1 }}u) / {{ OUT }}u;
}

fn tiles_down() -> u32 {
    return (params.grid_h + {{ OUT - 1 }}u) / {{ OUT }}u;
}

fn tiles() -> u32 {
    return params.samples * tiles_down() * tiles_across();
}

// The elements of as many vectors as `count` elements fill.
fn in_vectors(count: u32) -> u32 {
    return (count + 3u) / 4u * 4u;
}

// Which tile an invocation is for.
struct Tile {
    sample: u32,
    // The first row and column of its results.
    row: u32,
    column: u32,
}

fn tile_at(i: u32) -> Tile {
    let line = i / tiles_across();
    let sample = line / tiles_down();
    let row = line - sample * tiles_down();
    return Tile(sample, row * {{ OUT }}u, (i - line * tiles_across()) * {{ OUT }}u);
}

// Zeros where filters fill up the last vector.
@compute @workgroup_size(256)
fn transform_filters(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let row = in_vectors(params.result_count);
    let count = params.source_count * row;
    if i >= count {
        return;
    }
    let c = i / row;
    let k = i - c * row;
    let inside = k < params.result_count;
    let at = params.w_skip + select(0u, c * params.w_source + k * params.w_result, inside);
    {{- transform_filter() }}
    {% for i in range(TILE) %}
    {% for j in range(TILE) %}
    filters[{{ TILE * i + j }}u * count + i] = select(0.0, line_{{ i }}.v{{ j }}, inside);
    {% endfor %}
    {% endfor %}
}

// Zeros beyond the picture. Places before it wrap around: as unsigned numbers they are beyond any side.
fn pixel(plane: u32, row: u32, column: u32) -> f32 {
    let inside = (row < params.source_h) & (column < params.source_w);
    return select(0.0, source[plane + select(0u, row * params.source_w + column, inside)], inside);
}

// What fills up the last vector repeats the last tile; nobody reads what comes of it.
@compute @workgroup_size(64)
fn transform_source(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 64u);
    let count = in_vectors(tiles());
    if i >= count {
        return;
    }
    let tile = tile_at(min(i, tiles() - 1u));
    let channel = tile.sample * params.source_channels + params.source_first + group.z;
    let plane = params.source_skip + channel * params.source_h * params.source_w;
    let row = tile.row - params.padding_h;
    let column = tile.column - params.padding_w;
    {% for i in range(TILE) %}
    let across_{{ i }} = source_line(Line(
        {% for j in range(TILE) %}
        pixel(plane, row + {{ i }}u, column + {{ j }}u),
        {% endfor %}
    ));
    {% endfor %}
    let place = params.source_count * count;
    let to = group.z * count + i;
    {% for j in range(TILE) %}
    let down_{{ j }} = source_line(Line({% for i in range(TILE) %}across_{{ i }}.v{{ j }}{{ ", " if not loop.last }}{% endfor %}));
    {% for i in range(TILE) %}
    transformed[{{ TILE * i + j }}u * place + to] = down_{{ j }}.v{{ i }};
    {% endfor %}
    {% endfor %}
}

{# With a rectifier fused to it a text is for one pass. #}
{% for entry in ["forward", "backward_input"] if not (RECTIFY and entry == "backward_input" or MASK and entry == "forward") %}
@compute @workgroup_size(64)
fn {{ entry }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 64u);
    if i >= tiles() {
        return;
    }
    let count = in_vectors(tiles());
    let place = params.result_count * count;
    let from_channel = group.z * count + i;
    {% for i in range(TILE) %}
    let across_{{ i }} = result_line(Line(
        {% for j in range(TILE) %}
        finished[{{ TILE * i + j }}u * place + from_channel],
        {% endfor %}
    ));
    {% endfor %}
    {% for j in range(OUT) %}
    let down_{{ j }} = result_line(Line({% for i in range(TILE) %}across_{{ i }}.v{{ j }}{{ ", " if not loop.last }}{% endfor %}));
    {% endfor %}
    let bias = {{ "bias_at(group.z)" if entry == "forward" else "0.0" }};
    let tile = tile_at(i);
    let plane = tile.sample * params.result_channels + params.result_first + group.z;
    let left_over = min(params.grid_w - tile.column, {{ OUT }}u);
    {% for row in range(OUT) %}
    if tile.row + {{ row }}u < params.grid_h {
        let at = params.result_skip + (plane * params.result_h + tile.row + {{ row }}u) * params.result_w + tile.column;
        put_vector(at, left_over, bias + vec4({% for j in range(4) %}{{ "down_" ~ j ~ ".v" ~ row if j < OUT else "0.0" }}{{ ", " if not loop.last }}{% endfor %}));
    }
    {% endfor %}
}

{% endfor %}

// The three products of a convolution in tiles, as implicit matrix products: nothing is unfolded in memory.
//
//                    rows            columns          depth            left   source
//   forward          channels of y   positions of y   c, r, s          w      x
//   backward_input   channels of x   positions of dx  k, r, s          w      dy
//   backward_weight  channels of y   c, r, s          positions of dy  dy     x
//
// Positions are counted through all samples. `backward_input` computes those positions of dx that meet the same taps:
// there dx is a correlation of stride 1 of dy with these taps, flipped. Steps backwards and places before the picture
// wrap around: as unsigned numbers they are beyond any side.

struct Conv2dTilesParams {
    rows: u32,
    columns: u32,
    depth: u32,
    // Elements of the depth that a slice sums up, and the number of slices.
    slice: u32,
    slices: u32,
    // Elements of left between neighbouring rows, and for each of the three digits of the depth.
    left_skip: u32,
    left_row: u32,
    left_outer: u32,
    left_down: u32,
    left_right: u32,
    source_skip: u32,
    source_sample: u32,
    source_plane: u32,
    source_h: u32,
    source_w: u32,
    // Positions, and where in the source the first tap of a position lies: origin + stride · position.
    grid_h: u32,
    grid_w: u32,
    stride_h: u32,
    stride_w: u32,
    origin_h: u32,
    origin_w: u32,
    filter_h: u32,
    filter_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    // Elements of the result between neighbouring rows, and between samples, lines and positions in a line.
    result_skip: u32,
    result_row: u32,
    result_sample: u32,
    result_down: u32,
    result_right: u32,
    b_skip: u32,
    has_bias: u32,
}

// Whether results are added to what is there.
override accumulate: bool = false;

@group(0) @binding(0) var<uniform> params: Conv2dTilesParams;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> left: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
@group(0) @binding(14) var<storage, read> partials: array<f32>;

// A number in digits: channel, row and column of a filter, or sample, row and column of a position. Going on by a
// fixed step costs two comparisons instead of two divisions.
struct Digits {
    outer: u32,
    row: u32,
    column: u32,
}

fn digits(number: u32, height: u32, width: u32) -> Digits {
    let line = number / width;
    return Digits(line / height, line % height, number % width);
}

fn sum_of(a: Digits, b: Digits, height: u32, width: u32) -> Digits {
    var outer = a.outer + b.outer;
    var row = a.row + b.row;
    var column = a.column + b.column;
    if column >= width {
        column -= width;
        row++;
    }
    if row >= height {
        row -= height;
        outer++;
    }
    return Digits(outer, row, column);
}

// Four places in the source: the part of row, column and element that does not change with the depth.
struct Places {
    rows: vec4<u32>,
    columns: vec4<u32>,
    elements: vec4<u32>,
}

// Of four neighbouring positions, their first taps. Those beyond the last repeat it; nobody reads their results.
fn positions_at(column: u32) -> Places {
    let position = min(column + vec4(0u, 1u, 2u, 3u), vec4(params.columns - 1u));
    let line = position / params.grid_w;
    let sample = line / params.grid_h;
    let rows = (line - sample * params.grid_h) * params.stride_h + params.origin_h;
    let columns = (position - line * params.grid_w) * params.stride_w + params.origin_w;
    let elements = params.source_skip + sample * params.source_sample + rows * params.source_w + columns;
    return Places(rows, columns, elements);
}

// Of four neighbouring elements of the filters, as seen from a position.
fn taps_at(column: u32) -> Places {
    let element = min(column + vec4(0u, 1u, 2u, 3u), vec4(params.columns - 1u));
    let line = element / params.filter_w;
    let channel = line / params.filter_h;
    let rows = (line - channel * params.filter_h) * params.dilation_h;
    let columns = (element - line * params.filter_w) * params.dilation_w;
    return Places(rows, columns, channel * params.source_plane + rows * params.source_w + columns);
}

// The source at four places, moved on by what changes with the depth; zeros beyond the picture.
fn source_at(places: Places, row: u32, column: u32, element: u32) -> vec4<f32> {
    let inside = (places.rows + row < vec4(params.source_h)) & (places.columns + column < vec4(params.source_w));
    let at = select(vec4(0u), places.elements + element, inside);
    return select(vec4(0.0), vec4(source[at.x], source[at.y], source[at.z], source[at.w]), inside);
}

fn source_at_tap(positions: Places, tap: Digits) -> vec4<f32> {
    let row = tap.row * params.dilation_h;
    let column = tap.column * params.dilation_w;
    return source_at(positions, row, column, tap.outer * params.source_plane + row * params.source_w + column);
}

fn source_at_position(taps: Places, position: Digits) -> vec4<f32> {
    let row = position.row * params.stride_h + params.origin_h;
    let column = position.column * params.stride_w + params.origin_w;
    let element = params.source_skip + position.outer * params.source_sample + row * params.source_w + column;
    return source_at(taps, row, column, element);
}

// Four neighbouring rows of left. Those beyond the last repeat it; nobody reads their results.
fn left_quad(row: u32, at: u32) -> vec4<f32> {
    let rows = at + min(row + vec4(0u, 1u, 2u, 3u), vec4(params.rows - 1u)) * params.left_row;
    return vec4(left[rows.x], left[rows.y], left[rows.z], left[rows.w]);
}

fn left_along(place: Place, first: u32, lane: u32, depth: Digits) -> LeftParts {
    var parts: LeftParts;
    if first + lane % TILE_DEPTH < place.end {
        let line = params.left_skip + depth.outer * params.left_outer + depth.row * params.left_down;
        let at = line + depth.column * params.left_right;
        let row = place.row + lane / TILE_DEPTH * 4u;
        {% for part in range(LEFT_PARTS) %}
        parts[{{ part }}] = left_quad(row + {{ 4 * LANES // TILE_DEPTH * part }}u, at);
        {% endfor %}
    }
    return parts;
}

// An invocation has four positions and depths LANES / RIGHT_QUADS apart, over which `tap` walks.
fn right_across(
    place: Place,
    first: u32,
    lane: u32,
    positions: Places,
    tap: ptr<function, Digits>,
    step: Digits,
) -> RightParts {
    var parts: RightParts;
    var depth = first + lane / RIGHT_QUADS;
    {% for part in range(RIGHT_PARTS) %}
    if depth < place.end {
        parts[{{ part }}] = source_at_tap(positions, *tap);
    }
    *tap = sum_of(*tap, step, params.filter_h, params.filter_w);
    depth += LANES / RIGHT_QUADS;
    {% endfor %}
    return parts;
}

alias Taps = array<Places, {{ RIGHT_PARTS }}>;

// An invocation has one position, over which the loop walks, and quads of filter elements.
fn right_along(place: Place, first: u32, lane: u32, taps: ptr<function, Taps>, position: Digits) -> RightParts {
    var parts: RightParts;
    if first + lane % TILE_DEPTH < place.end {
        {% for part in range(RIGHT_PARTS) %}
        parts[{{ part }}] = source_at_position((*taps)[{{ part }}], position);
        {% endfor %}
    }
    return parts;
}

// Where in the result the column of a position lies.
fn result_of(column: u32) -> u32 {
    let line = column / params.grid_w;
    let sample = line / params.grid_h;
    let row = line - sample * params.grid_h;
    let first = sample * params.result_sample + row * params.result_down;
    return first + (column - line * params.grid_w) * params.result_right;
}

fn put(at: u32, column: u32, value: f32) {
    if column < params.columns {
        if accumulate {
            result[at] += stored(at, value);
        } else {
            result[at] = stored(at, value);
        }
    }
}

// Slices put their sums one after another into scratch memory, column by column.
fn put_sums(sums: ptr<function, Sums>, place: Place, lane: u32, scattered: bool) {
    {% for q in range(SUM_QUADS) %}
    let column_{{ q }} = column_of(place, lane, {{ q }}u);
    {% for i in range(4) %}
    var at_{{ q }}_{{ i }} = column_{{ q }} + {{ i }}u;
    if scattered {
        at_{{ q }}_{{ i }} = result_of(column_{{ q }} + {{ i }}u);
    }
    {% endfor %}
    {% endfor %}
    {% for r in range(SUM_ROWS) %}
    let row_{{ r }} = row_of(place, lane, {{ r }}u);
    if row_{{ r }} < params.rows {
        let line = params.result_skip + (place.slice * params.rows + row_{{ r }}) * params.result_row;
        {% for q in range(SUM_QUADS) %}
        {% for i in range(4) %}
        put(line + at_{{ q }}_{{ i }}, column_{{ q }} + {{ i }}u, (*sums)[{{ SUM_QUADS * r + q }}].{{ "xyzw"[i] }});
        {% endfor %}
        {% endfor %}
    }
    {% endfor %}
}

fn bias_of(row: u32) -> f32 {
    if params.has_bias != 0u {
        return b[params.b_skip + min(row, params.rows - 1u)];
    }
    return 0.0;
}

fn add_bias(sums: ptr<function, Sums>, place: Place, lane: u32) {
    {% for r in range(SUM_ROWS) %}
    let bias_{{ r }} = bias_of(row_of(place, lane, {{ r }}u));
    {% for q in range(SUM_QUADS) %}
    (*sums)[{{ SUM_QUADS * r + q }}] += bias_{{ r }};
    {% endfor %}
    {% endfor %}
}

{% for entry in ["forward", "backward_input"] %}
@compute @workgroup_size(LANES)
fn {{ entry }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group, groups);
    let height = params.filter_h;
    let width = params.filter_w;
    let left_step = digits(TILE_DEPTH, height, width);
    let right_step = digits(LANES / RIGHT_QUADS, height, width);
    let positions = positions_at(place.column + lane % RIGHT_QUADS * 4u);
    var left_tap = digits(place.begin + lane % TILE_DEPTH, height, width);
    var right_tap = digits(place.begin + lane / RIGHT_QUADS, height, width);
    {{- declare_sums() }}
    var left_parts = left_along(place, place.begin, lane, left_tap);
    var right_parts = right_across(place, place.begin, lane, positions, &right_tap, right_step);
    for (var first = place.begin; first < place.end; first += TILE_DEPTH) {
        workgroupBarrier();
        keep_left_along(left_parts, lane);
        keep_right_across(right_parts, lane);
        workgroupBarrier();
        left_tap = sum_of(left_tap, left_step, height, width);
        left_parts = left_along(place, first + TILE_DEPTH, lane, left_tap);
        right_parts = right_across(place, first + TILE_DEPTH, lane, positions, &right_tap, right_step);
        {{- multiply("along", "across") }}
    }
    {{- finish_sums() }}
    {% if entry == "forward" %}
    add_bias(&sums, place, lane);
    {% endif %}
    put_sums(&sums, place, lane, params.slices == 1u);
}

{% endfor %}
@compute @workgroup_size(LANES)
fn backward_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group, groups);
    let height = params.grid_h;
    let width = params.grid_w;
    let step = digits(TILE_DEPTH, height, width);
    let column = place.column + lane / TILE_DEPTH * 4u;
    var taps: Taps;
    {% for part in range(RIGHT_PARTS) %}
    taps[{{ part }}] = taps_at(column + {{ 4 * LANES // TILE_DEPTH * part }}u);
    {% endfor %}
    var position = digits(place.begin + lane % TILE_DEPTH, height, width);
    {{- declare_sums() }}
    var left_parts = left_along(place, place.begin, lane, position);
    var right_parts = right_along(place, place.begin, lane, &taps, position);
    for (var first = place.begin; first < place.end; first += TILE_DEPTH) {
        workgroupBarrier();
        keep_left_along(left_parts, lane);
        keep_right_along(right_parts, lane);
        workgroupBarrier();
        position = sum_of(position, step, height, width);
        left_parts = left_along(place, first + TILE_DEPTH, lane, position);
        right_parts = right_along(place, first + TILE_DEPTH, lane, &taps, position);
        {{- multiply("along", "along") }}
    }
    {{- finish_sums() }}
    put_sums(&sums, place, lane, false);
}

// The sum of the slices, always in the same order.
fn sum_of_slices(i: u32) -> f32 {
    let elements = params.rows * params.columns;
    var sum = 0.0;
    for (var slice = 0u; slice < params.slices; slice++) {
        sum += partials[slice * elements + i];
    }
    return sum;
}

{% for entry in ["forward_sum", "backward_input_sum", "backward_weight_sum"] %}
@compute @workgroup_size(256)
fn {{ entry }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let row = i / params.columns;
    if row < params.rows {
        let column = i - row * params.columns;
        let line = params.result_skip + row * params.result_row;
        {% if entry == "forward_sum" %}
        put(line + result_of(column), column, sum_of_slices(i) + bias_of(row));
        {% elif entry == "backward_input_sum" %}
        put(line + result_of(column), column, sum_of_slices(i));
        {% else %}
        put(line + column, column, sum_of_slices(i));
        {% endif %}
    }
}

{% endfor %}

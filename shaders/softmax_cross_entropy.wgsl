// For each row of x: p = softmax x; dx = (p - onehot label) · gradient_scale; loss = -log p[label]; and whether the
// label has the largest x, the first of equals. `forward` gives each row a workgroup, `forward_by_lane` an invocation.

struct SoftmaxCrossEntropyParams {
    // The batch's row that the bindings of x and dx start with.
    first: u32,
    rows: u32,
    classes: u32,
    // Rows of the whole batch: where the second half of metrics starts.
    samples: u32,
}

@group(0) @binding(0) var<uniform> params: SoftmaxCrossEntropyParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(10) var<storage, read> labels: array<u32>;
@group(0) @binding(11) var<storage, read_write> metrics: array<f32>;
@group(0) @binding(13) var<storage, read> scalars: Scalars;

const LANES = 256u;

var<workgroup> values: array<f32, LANES>;
var<workgroup> places: array<u32, LANES>;

// log(1 + r) for 0 <= r <= 1, without the rounding of 1 + r: twice the series of the area tangent at r / (2 + r).
fn log_one_plus(r: f32) -> f32 {
    let s = r / (2.0 + r);
    let t = s * s;
    var sum = 1.0 / 15.0;
    sum = sum * t + 1.0 / 13.0;
    sum = sum * t + 1.0 / 11.0;
    sum = sum * t + 1.0 / 9.0;
    sum = sum * t + 1.0 / 7.0;
    sum = sum * t + 1.0 / 5.0;
    sum = sum * t + 1.0 / 3.0;
    sum = sum * t + 1.0;
    return 2.0 * s * sum;
}

// -log p[label]. `below` is largest - x[label], `own` = exp(-below), `rest` the sum of the other exponentials.
fn loss(below: f32, own: f32, rest: f32) -> f32 {
    if rest <= own {
        return log_one_plus(rest / own);
    }
    return log(rest + own) + below;
}

// Whether `b` beats `a` as the largest: NaN beats everything, so that it shows.
fn beats(b: f32, place_b: u32, a: f32, place_a: u32) -> bool {
    if is_nan(a) || is_nan(b) {
        return !is_nan(a) || (is_nan(b) && place_b < place_a);
    }
    return b > a || (b == a && place_b < place_a);
}

// What is subtracted from the share of class j: 1 for the label. Written so that the label's own gradient does not
// cancel: p - 1 = -rest / sum.
fn gradient(exponential: f32, is_label: bool, rest: f32, sum: f32) -> f32 {
    return select(exponential, -rest, is_label) / sum * scalars.gradient_scale;
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_workgroup(group, groups);
    if row >= params.rows {
        return;
    }
    let start = row * params.classes;
    let label = labels[params.first + row];

    // A lane beyond the classes repeats the last one's value: it is a largest of some class all the same.
    var place = min(lane, params.classes - 1u);
    var largest = x[start + place];
    for (var j = lane + LANES; j < params.classes; j += LANES) {
        let value = x[start + j];
        if beats(value, j, largest, place) {
            largest = value;
            place = j;
        }
    }
    values[lane] = largest;
    places[lane] = place;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half && beats(values[lane + half], places[lane + half], values[lane], places[lane]) {
            values[lane] = values[lane + half];
            places[lane] = places[lane + half];
        }
    }
    workgroupBarrier();
    largest = values[0];
    place = places[0];
    workgroupBarrier();

    var part = 0.0;
    for (var j = lane; j < params.classes; j += LANES) {
        if j != label {
            part += exp(x[start + j] - largest);
        }
    }
    values[lane] = part;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            values[lane] += values[lane + half];
        }
    }
    workgroupBarrier();
    let rest = values[0];

    // A label that is no class is never sent; if it were, nothing outside the row is read.
    let known = label < params.classes;
    let below = select(0.0, largest - x[start + min(label, params.classes - 1u)], known);
    let own = select(0.0, exp(-below), known);
    let sum = rest + own;
    for (var j = lane; j < params.classes; j += LANES) {
        dx[start + j] = gradient(exp(x[start + j] - largest), j == label, rest, sum);
    }
    if lane == 0u {
        metrics[params.first + row] = loss(below, own, rest);
        metrics[params.samples + params.first + row] = select(0.0, 1.0, place == label);
    }
}

@compute @workgroup_size(256)
fn forward_by_lane(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_invocation(group, groups, lane, LANES);
    if row >= params.rows {
        return;
    }
    let start = row * params.classes;
    let label = labels[params.first + row];
    var place = 0u;
    var largest = x[start];
    for (var j = 1u; j < params.classes; j++) {
        let value = x[start + j];
        if beats(value, j, largest, place) {
            largest = value;
            place = j;
        }
    }
    var rest = 0.0;
    for (var j = 0u; j < params.classes; j++) {
        if j != label {
            rest += exp(x[start + j] - largest);
        }
    }
    let known = label < params.classes;
    let below = select(0.0, largest - x[start + min(label, params.classes - 1u)], known);
    let own = select(0.0, exp(-below), known);
    let sum = rest + own;
    for (var j = 0u; j < params.classes; j++) {
        dx[start + j] = gradient(exp(x[start + j] - largest), j == label, rest, sum);
    }
    metrics[params.first + row] = loss(below, own, rest);
    metrics[params.samples + params.first + row] = select(0.0, 1.0, place == label);
}

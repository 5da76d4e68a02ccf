// y = x · factor and dx = dy · factor, where factor is 0 with probability p and otherwise 1 / (1 - p). Factors are
// drawn afresh in each pass, from counters: the sample's number in the run, the layer, and the element's block of
// four in the sample. Each invocation takes four elements.

// Elements of a sample.
override SAMPLE: u32;

struct DropoutParams {
    // The batch's element that the bindings start with.
    first: u32,
    elements: u32,
    // Random words below it drop their element.
    threshold: u32,
    scale: f32,
    layer: u32,
}

@group(0) @binding(0) var<uniform> params: DropoutParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(8) var<storage, read> dy: array<f32>;
@group(0) @binding(13) var<storage, read> scalars: Scalars;

// The factors of four elements of the dispatch, which may lie in several blocks and samples.
fn factors(i: u32) -> vec4<f32> {
    if scalars.training == 0u {
        return vec4<f32>(1.0);
    }
    var result = vec4<f32>(0.0);
    var words = vec4<u32>(0u);
    var sample_of_words = 0u;
    var block_of_words = 0xffffffffu;
    for (var k = 0u; k < 4u; k++) {
        let element = params.first + i + k;
        let sample = element / SAMPLE;
        let place = element % SAMPLE;
        let block = place >> 2u;
        if sample != sample_of_words || block != block_of_words {
            let low = scalars.first_sample.x + sample;
            let high = scalars.first_sample.y + select(0u, 1u, low < sample);
            words = philox(vec4<u32>(low, high, params.layer, block), scalars.seed);
            sample_of_words = sample;
            block_of_words = block;
        }
        result[k] = select(0.0, params.scale, words[place & 3u] >= params.threshold);
    }
    return result;
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = 4u * flat_invocation(group, groups, lane, 256u);
    if i < params.elements {
        let factor = factors(i);
        let count = min(4u, params.elements - i);
        for (var k = 0u; k < count; k++) {
            y[i + k] = x[i + k] * factor[k];
        }
    }
}

@compute @workgroup_size(256)
fn backward_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = 4u * flat_invocation(group, groups, lane, 256u);
    if i < params.elements {
        let factor = factors(i);
        let count = min(4u, params.elements - i);
        for (var k = 0u; k < count; k++) {
            dx[i + k] = stored(i + k, dy[i + k] * factor[k]);
        }
    }
}

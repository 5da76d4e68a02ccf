// dw += the sum of the slices, always in the same order.
@compute @workgroup_size(256)
fn sum_slices(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let elements = params.result_count * params.source_channels * params.filter_h * params.filter_w;
    if i < elements {
        let slices = params.slices;
        var sum = 0.0;
        for (var slice = 0u; slice < slices; slice++) {
            sum += partials[slice * elements + i];
        }
        dw[params.w_skip + i] += sum;
    }
}

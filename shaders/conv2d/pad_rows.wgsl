// The padded copy: samples × channels × rows × columns, 4 neighbours of a row in a vector. A workgroup takes a plane,
// and its invocations take turns at the vectors, so that no index needs a division in the loop.
@compute @workgroup_size(64)
fn pad_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let vectors = params.padded_w / 4u;
    let rows = params.padded_h;
    let source_h = params.source_h;
    let source_w = params.source_w;
    let plane = group.y * params.source_channels + params.source_first + group.x;
    let from_plane = params.source_skip + plane * source_h * source_w;
    let to_plane = (group.y * params.source_count + group.x) * rows * vectors;
    let rows_a_turn = quotient(64u, vectors);
    let vectors_a_turn = 64u - rows_a_turn * vectors;
    var line = quotient(lane, vectors);
    var vector = lane - line * vectors;
    while line < rows {
        // An index below 0 wraps and is beyond any side.
        let row = line - params.padding_h;
        let column = vector * 4u - params.padding_w;
        let at = from_plane + row * source_w + column;
        let inside = row < source_h;
        var value = vec4(0.0);
        if inside && column < source_w {
            value.x = source[at];
        }
        if inside && column + 1u < source_w {
            value.y = source[at + 1u];
        }
        if inside && column + 2u < source_w {
            value.z = source[at + 2u];
        }
        if inside && column + 3u < source_w {
            value.w = source[at + 3u];
        }
        copied[to_plane + line * vectors + vector] = value;
        line += rows_a_turn;
        vector += vectors_a_turn;
        if vector >= vectors {
            vector -= vectors;
            line += 1u;
        }
    }
}

//! The meaning of a convolution and its gradients, in plain loops.

use super::{Conv2d, Sides};
use crate::{HostTensors, Pass, Tensor};

/// The elements of one output row that one tap of the filter reaches, and what they meet: `length` neighbours of y
/// from `y` on, every stride-th element of x from `x` on. Both count within a channel.
struct Line {
    tap: usize,
    x: usize,
    y: usize,
    length: usize,
}

pub(super) fn run(conv: &Conv2d, pass: Pass, sides: Sides, host: &mut HostTensors) {
    let lines = lines(conv, &sides);
    match pass {
        Pass::Forward => forward(conv, &sides, &lines, host),
        Pass::BackwardInput => backward_input(conv, &sides, &lines, host),
        Pass::BackwardWeight => backward_weight(conv, &sides, &lines, host),
        Pass::Update => {}
    }
}

fn lines(conv: &Conv2d, sides: &Sides) -> Vec<Line> {
    let mut lines = Vec::new();
    for r in 0..sides.r {
        for s in 0..sides.s {
            let columns = reached(sides.w, sides.q, conv.stride.w, conv.padding.w, s * conv.dilation.w);
            let rows = reached(sides.h, sides.p, conv.stride.h, conv.padding.h, r * conv.dilation.h);
            if columns.is_empty() {
                continue;
            }
            for p in rows {
                let row = p * conv.stride.h + r * conv.dilation.h - conv.padding.h;
                let column = columns.start * conv.stride.w + s * conv.dilation.w - conv.padding.w;
                let y = p * sides.q + columns.start;
                lines.push(Line { tap: r * sides.s + s, x: row * sides.w + column, y, length: columns.len() });
            }
        }
    }
    lines
}

/// Output positions whose input position, i·stride + offset − padding, lies inside the picture.
fn reached(input: usize, output: usize, stride: usize, padding: usize, offset: usize) -> std::ops::Range<usize> {
    let start = padding.saturating_sub(offset).div_ceil(stride);
    let end = (input + padding).saturating_sub(offset).div_ceil(stride).min(output);
    start..end.max(start)
}

fn forward(conv: &Conv2d, sides: &Sides, lines: &[Line], host: &mut HostTensors) {
    let mut y = host.take(Tensor::Y);
    let (x, w) = (host.read(Tensor::X), host.read(Tensor::W));
    for (i, plane) in y.chunks_exact_mut(sides.p * sides.q).enumerate() {
        let (n, k) = (i / sides.k, i % sides.k);
        plane.fill(if conv.bias { host.read(Tensor::B)[k] } else { 0.0 });
        for c in 0..sides.c {
            let x = &x[(n * sides.c + c) * sides.h * sides.w..];
            let w = &w[(k * sides.c + c) * sides.taps()..];
            for line in lines {
                let y = &mut plane[line.y..line.y + line.length];
                for (y, x) in y.iter_mut().zip(x[line.x..].iter().step_by(conv.stride.w)) {
                    *y += w[line.tap] * x;
                }
            }
        }
    }
    host.put(Tensor::Y, y);
}

fn backward_input(conv: &Conv2d, sides: &Sides, lines: &[Line], host: &mut HostTensors) {
    let mut dx = host.take(Tensor::Dx);
    let (w, dy) = (host.read(Tensor::W), host.read(Tensor::Dy));
    for (i, plane) in dx.chunks_exact_mut(sides.h * sides.w).enumerate() {
        let (n, c) = (i / sides.c, i % sides.c);
        plane.fill(0.0);
        for k in 0..sides.k {
            let dy = &dy[(n * sides.k + k) * sides.p * sides.q..];
            let w = &w[(k * sides.c + c) * sides.taps()..];
            for line in lines {
                let dy = &dy[line.y..line.y + line.length];
                for (dx, dy) in plane[line.x..].iter_mut().step_by(conv.stride.w).zip(dy) {
                    *dx += w[line.tap] * dy;
                }
            }
        }
    }
    host.put(Tensor::Dx, dx);
}

fn backward_weight(conv: &Conv2d, sides: &Sides, lines: &[Line], host: &mut HostTensors) {
    let mut dw = host.take(Tensor::Dw);
    let (x, dy) = (host.read(Tensor::X), host.read(Tensor::Dy));
    for (i, dw) in dw.chunks_exact_mut(sides.taps()).enumerate() {
        let (k, c) = (i / sides.c, i % sides.c);
        for n in 0..sides.n {
            let x = &x[(n * sides.c + c) * sides.h * sides.w..];
            let dy = &dy[(n * sides.k + k) * sides.p * sides.q..];
            for line in lines {
                let dy = &dy[line.y..line.y + line.length];
                let x = x[line.x..].iter().step_by(conv.stride.w);
                dw[line.tap] += x.zip(dy).map(|(x, dy)| x * dy).sum::<f64>();
            }
        }
    }
    host.put(Tensor::Dw, dw);
    if conv.bias {
        let mut db = host.take(Tensor::Db);
        for (i, plane) in host.read(Tensor::Dy).chunks_exact(sides.p * sides.q).enumerate() {
            db[i % sides.k] += plane.iter().sum::<f64>();
        }
        host.put(Tensor::Db, db);
    }
}

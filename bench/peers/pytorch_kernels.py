"""The products of `brigade bench kernels` in PyTorch on a CUDA device, without and with TF32.

pytorch_kernels.py prints a line for each pass: milliseconds of one run, out of a CUDA graph of twenty, and GFLOP/s.
"""

import statistics

import torch
from torch.nn.functional import conv2d

# Rows, columns and depth of products; input channels, output channels, side, samples, kernel, stride and padding of
# convolutions, by the names that `bench kernels` has for them.
PRODUCTS = {"512": (512, 512, 512), "2048": (1024, 2048, 2048)}
CONVOLUTIONS = {
    "3x3-large": (128, 128, 28, 32, 3, 1, 1),
    "3x3": (32, 64, 32, 8, 3, 1, 1),
    "3x3-first": (3, 32, 32, 8, 3, 1, 1),
    "1x1": (64, 64, 16, 8, 1, 1, 0),
    "5x5": (20, 50, 12, 8, 5, 1, 0),
}
MASKS = {"forward": None, "backward_input": [True, False, False], "backward_weight": [False, True, False]}
RUNS, ROUNDS = 20, 10


def milliseconds(run):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(RUNS):
            run()
    times = []
    for _ in range(ROUNDS + 1):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / RUNS)
    return statistics.median(times[1:])


def tell(what, flops, run):
    time = milliseconds(run)
    print(f"{what}: {time:.4f} ms, {flops / time / 1e6:.0f} GFLOP/s", flush=True)


def main():
    torch.backends.cudnn.benchmark = True
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        precision = "tf32" if tf32 else "f32"
        for name, (rows, columns, depth) in PRODUCTS.items():
            x, w = torch.randn(rows, depth, device="cuda"), torch.randn(columns, depth, device="cuda")
            tell(f"{precision} linear/{name}/forward", 2 * rows * columns * depth, lambda: x @ w.T)
        for name, (inputs, outputs, side, samples, kernel, stride, padding) in CONVOLUTIONS.items():
            x = torch.randn(samples, inputs, side, side, device="cuda")
            w = torch.randn(outputs, inputs, kernel, kernel, device="cuda")
            dy = torch.randn_like(conv2d(x, w, None, stride, padding))
            flops = 2 * dy.numel() * inputs * kernel * kernel
            rest = ([0], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
            for name_of_pass, mask in MASKS.items():
                forward = lambda: conv2d(x, w, None, stride, padding)
                backward = lambda: torch.ops.aten.convolution_backward(dy, x, w, *rest, mask)
                tell(f"{precision} conv2d/{name}/{name_of_pass}", flops, backward if mask else forward)


main()

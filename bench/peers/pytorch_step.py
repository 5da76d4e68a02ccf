"""A training step of one of Brigade's built-in models in PyTorch: forward, loss, backward, update.

pytorch_step.py DEVICE MODEL BATCH STEPS WARM_UP THREADS [tf32] prints one JSON document with the milliseconds of each
step.
"""

import json
import sys
import time

import torch
from torch import nn

CLASSES = 10


def convolution(inputs, outputs, kernel=3, stride=1, padding=1):
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU()]


def cnn_small():
    layers = convolution(3, 32) + convolution(32, 32) + [nn.MaxPool2d(2)] + convolution(32, 64) + [nn.MaxPool2d(2)]
    return layers + [nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, CLASSES)], 32, CLASSES


def plain_8():
    layers = convolution(3, 32)
    for _ in range(8):
        layers += convolution(32, 32)
    return layers + [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES)], 16, CLASSES


def vgg_f():
    norm = lambda: nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)
    pool = lambda: nn.MaxPool2d(3, 2, ceil_mode=True)
    layers = convolution(3, 64, 11, 4, 0) + [norm(), pool()] + convolution(64, 256, 5, 1, 2) + [norm(), pool()]
    for _ in range(3):
        layers += convolution(256, 256)
    layers += [pool(), nn.Flatten()]
    for inputs in (9216, 4096):
        layers += [nn.Linear(inputs, 4096), nn.ReLU(), nn.Dropout(0.5)]
    return layers + [nn.Linear(4096, 1000)], 224, 1000


MODELS = {"cnn-small": cnn_small, "plain-8": plain_8, "vgg-f": vgg_f}


def main():
    device, model, batch, steps, warm_up, threads, *more = sys.argv[1:]
    batch, steps, warm_up = int(batch), int(steps), int(warm_up)
    torch.set_num_threads(int(threads))
    torch.set_num_interop_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = "tf32" in more
    torch.backends.cudnn.allow_tf32 = "tf32" in more
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    layers, side, classes = MODELS[model]()
    net = nn.Sequential(*layers).to(device)
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    loss = nn.CrossEntropyLoss()
    x = torch.rand(batch, 3, side, side, device=device) * 2 - 1
    labels = torch.arange(batch, device=device) % classes
    finish = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    milliseconds = []
    for step in range(warm_up + steps):
        finish()
        started = time.perf_counter()
        optimiser.zero_grad()
        value = loss(net(x), labels)
        value.backward()
        optimiser.step()
        finish()
        assert value.item() == value.item()
        if step >= warm_up:
            milliseconds.append(1e3 * (time.perf_counter() - started))
    print(json.dumps({"version": torch.__version__, "milliseconds": milliseconds}))


main()

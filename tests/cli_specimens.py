"""A user's file of networks, and the command line as a user calls it."""

from __future__ import annotations

import sys

from typer.testing import CliRunner, Result

from reluctant.cli import app

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, bias=False):
        super().__init__()
        self.fc1 = nn.Linear(3, 4, bias=bias)
        self.fc2 = nn.Linear(4, 2, bias=bias)

    def forward(self, x):
        return self.fc2(self.gate(self.fc1(x)))

    def gate(self, q):
        return torch.relu(q)

def biased():
    return Net(bias=True)

class Gelu(Net):
    def gate(self, q):
        return nn.functional.gelu(q)

class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))

class Branching(Net):
    def forward(self, x):
        return x if x.sum() > 0 else -x

class Leaving(Net):
    def forward(self, x):
        import sys
        raise ValueError("?") if x.dim() == 0 else SystemExit(0)

class Chatty(Net):
    def gate(self, q):
        print("hello")
        return torch.relu(q)

def with_value(value):
    net = Net()
    with torch.no_grad():
        net.fc2.weight[0, 0] = value
    return net

def nan(): return with_value(float("nan"))
def infinite(): return with_value(float("inf"))

def mixed():
    net = Net()
    net.fc2.double()
    return net

class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4, bias=False), nn.Linear(2, 4, bias=False)

    def forward(self, x, y):
        h = torch.relu(self.a(x) + self.b(y))
        return {"hidden": h, "sum": h.sum(1, keepdim=True)}

def lazy():
    return nn.Sequential(nn.LazyLinear(4, bias=False), nn.ReLU(), nn.LazyLinear(2, bias=False))

def empty():
    with torch.device("meta"):
        return Net()
"""
TWO = "dual.inner-product,dual.homogeneous"


def run(*args: str) -> Result:
    result = CliRunner().invoke(app, args)
    sys.modules.pop("my_net", None)
    return result


def check(*args: str, statements: str = TWO) -> Result:
    return run("check", *args, "--effort", "quick", "--statements", statements)

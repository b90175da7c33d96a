"""Random small networks of the operators that stand in vision networks, for properties that hold of every one.

A network is a plan: which operators, in which order, each on which of the maps before it. Every operator takes maps
(batch, channels, height, width) of any size to maps of any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

Function = Callable[[Tensor], Tensor]


class Apply(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, maps: Tensor) -> Tensor:
        return self.function(maps)


class Tokens(nn.Module):
    """A layer of tokens (batch, token, channel) on maps."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, maps: Tensor) -> Tensor:
        return self.layer(maps.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, maps.shape[2:])


class Columns(nn.Module):
    """A recurrent layer over the first columns of maps; few, as each is written out as calls of its own."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, maps: Tensor) -> Tensor:
        return self.layer(maps[:, :, :, :3].mean(2).mT)[0].mT[:, :, None]


class Attention(nn.Module):
    """Self-attention of two heads, fused or written out."""

    def __init__(self, channels: int, fused: bool) -> None:
        super().__init__()
        self.project, self.join, self.fused = nn.Linear(channels, 12), nn.Linear(4, channels), fused

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.project(tokens).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        if self.fused:
            found = functional.scaled_dot_product_attention(query, key, value)
        else:
            found = (query @ key.mT / math.sqrt(2)).softmax(-1) @ value
        return tokens + self.join(found.transpose(1, 2).flatten(2))


class Gated(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps * self.up(self.down(maps.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Standardised(nn.Conv2d):
    """A convolution whose weight the graph computes, as in BiT."""

    def forward(self, maps: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(maps, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-3), self.bias, padding=1)


class GridSample(nn.Module):
    """A spatial transformer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.locate = nn.Linear(channels, 6)

    def forward(self, maps: Tensor) -> Tensor:
        turned = self.locate(maps.mean((2, 3))).tanh().view(-1, 2, 3) * 0.3 + torch.eye(2, 3)
        return functional.grid_sample(
            maps, functional.affine_grid(turned, maps.shape, align_corners=False), align_corners=False
        )


def write(maps: Tensor) -> Tensor:
    """Assign to a part."""
    made = maps.clone()
    made[:, :1] = made[:, :1] * 2
    return made


def convolutions(channels: int) -> dict[str, Callable[[], nn.Module]]:
    return {
        "convolution": lambda: nn.Conv2d(channels, 5, 3, padding=1),
        "strided convolution": lambda: nn.Conv2d(channels, 6, 3, 2, 1, bias=False),
        "dilated convolution": lambda: nn.Conv2d(channels, 4, 3, padding=2, dilation=2),
        "depthwise convolution": lambda: nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        "reflecting convolution": lambda: nn.Conv2d(channels, 4, 3, padding=1, padding_mode="reflect"),
        "circular convolution": lambda: nn.Conv2d(channels, 4, 3, padding=1, padding_mode="circular"),
        "convolution of the same size": lambda: nn.Conv2d(channels, 4, 2, padding="same"),
        "transposed convolution": lambda: nn.ConvTranspose2d(channels, 4, 2, 2),
        "standardised convolution": lambda: Standardised(channels, 4, 3),
        "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(channels, 4, 3, padding=1)),
        "gate": lambda: Gated(channels),
        "linear": lambda: Tokens(nn.Linear(channels, 6)),
        "attention": lambda: Tokens(Attention(channels, False)),
        "fused attention": lambda: Tokens(Attention(channels, True)),
        "GRU": lambda: Columns(nn.GRU(channels, 4, batch_first=True)),
        "LSTM": lambda: Columns(nn.LSTM(channels, 4, batch_first=True)),
        "grid sample": lambda: GridSample(channels),
    }


def norms(channels: int) -> dict[str, Callable[[], nn.Module]]:
    return {
        "batch norm": lambda: nn.BatchNorm2d(channels),
        "group norm": lambda: nn.GroupNorm(1, channels),
        "instance norm": lambda: nn.InstanceNorm2d(channels, affine=True),
        "layer norm": lambda: Tokens(nn.LayerNorm(channels)),
        "rms norm": lambda: Tokens(nn.RMSNorm(channels)),
        "response norm": lambda: nn.LocalResponseNorm(3),
        "normalize": lambda: Apply(lambda maps: functional.normalize(maps, dim=1)),
        "parametric relu": lambda: nn.PReLU(channels),
        "dropout": lambda: nn.Dropout2d(),
    }


#: Each elementwise, with values of moderate size for values of moderate size.
ELEMENTWISE: dict[str, Function] = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "elu": functional.elu,
    "selu": functional.selu,
    "celu": functional.celu,
    "mish": functional.mish,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "logsigmoid": functional.logsigmoid,
    "relu6": functional.relu6,
    "leaky relu": functional.leaky_relu,
    "softshrink": functional.softshrink,
    "hardshrink": functional.hardshrink,
    "tanhshrink": functional.tanhshrink,
    "hardtanh": functional.hardtanh,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "erf": torch.erf,
    "square": torch.square,
    "clip": lambda x: x.clip(-0.5, 1),
    "clamp from below": lambda x: x.clamp(min=0.1),
    "exp": lambda x: x.tanh().exp(),
    "sqrt": lambda x: (x.abs() + 0.1).sqrt(),
    "rsqrt": lambda x: (x.square() + 1).rsqrt(),
    "pow": lambda x: x.tanh() ** 3,
    "reciprocal": lambda x: (x.abs() + 1).reciprocal(),
    "log": lambda x: (x.abs() + 0.5).log(),
    "log1p": lambda x: x.abs().log1p(),
    "threshold": lambda x: functional.threshold(x, 0.1, 0.0),
    "one minus": lambda x: 1 - x,
    "rsub": lambda x: torch.rsub(x, 2.0),
    "one over": lambda x: 1 / (x.abs() + 1),
    "scaled": lambda x: x * 0.5 + 0.25,
    "masked": lambda x: x.masked_fill(x < 0, 0.1),
    "where": lambda x: torch.where(x > 0, x, x * 0.1),
    "times mask": lambda x: x * (x > 0.1),
    "nan to number": lambda x: x.nan_to_num(),
    "lerp": lambda x: torch.lerp(x, x.tanh(), 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x.tanh(), value=0.1),
    "relu in place": lambda x: x.clone().relu_(),
    "add in place": lambda x: x.clone().add_(x),
    "write": write,
    "float power": lambda x: torch.pow(x.abs() + 0.1, 1.5),
}

#: Each moves or joins values along its dimensions.
SHAPES: dict[str, Function] = {
    "max pooling": lambda x: functional.max_pool2d(x, 2, ceil_mode=True),
    "average pooling": lambda x: functional.avg_pool2d(x, 3, 2, 1),
    "global pooling": lambda x: functional.adaptive_avg_pool2d(x, 1),
    "adaptive pooling": lambda x: functional.adaptive_avg_pool2d(x, 3),
    "adaptive max pooling": lambda x: functional.adaptive_max_pool2d(x, 2),
    "unpooling": lambda x: functional.max_unpool2d(*functional.max_pool2d(x, 1, return_indices=True), 1),
    "power pooling": lambda x: functional.lp_pool2d(x.abs() + 0.1, 2, 2, ceil_mode=True),
    "nearest": lambda x: functional.interpolate(x, scale_factor=2),
    "bilinear": lambda x: functional.interpolate(x, (5, 7), mode="bilinear"),
    "bicubic": lambda x: functional.interpolate(x, (6, 6), mode="bicubic"),
    "antialiased": lambda x: functional.interpolate(x, (3, 3), mode="bilinear", antialias=True),
    "area": lambda x: functional.interpolate(x, (3, 4), mode="area"),
    "nearest exact": lambda x: functional.interpolate(x, (5, 5), mode="nearest-exact"),
    "trilinear": lambda x: functional.interpolate(x[:, None], (4, 5, 5), mode="trilinear")[:, 0],
    "pixel shuffle": lambda x: functional.pixel_shuffle(torch.cat([x] * 4, 1), 2),
    "padding": lambda x: functional.pad(x, (1, 0, 2, 1), value=0.5),
    "replicated padding": lambda x: functional.pad(x, (1, 1, 1, 1), mode="replicate"),
    "transposed": lambda x: x.mT,
    "flipped": lambda x: x.flip(2),
    "rolled": lambda x: x.roll((1, 1), (2, 3)),
    "narrow": lambda x: x.narrow(2, 0, 1),
    "slice": lambda x: x[:, :, ::2],
    "tile": lambda x: x.tile(1, 1, 1, 2),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "repeat interleave": lambda x: x.repeat_interleave(2, 2),
    "expand as": lambda x: x.mean((2, 3), keepdim=True).expand_as(x),
    "chunks": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "split": lambda x: sum(x.split(1, 1)),
    "unbind": lambda x: torch.stack(x.unbind(2)[::-1], 2),
    "index": lambda x: x[:, torch.zeros(2, dtype=torch.long)],
    "gather": lambda x: x.gather(3, x.argsort(3)),
    "sorted": lambda x: x.sort(2)[0],
    "top": lambda x: x.topk(1, 1)[0],
    "median": lambda x: x.median(3, keepdim=True)[0],
    "greatest": lambda x: x.max(1, keepdim=True)[0],
    "amax": lambda x: x.amax((2, 3), keepdim=True),
    "amin": lambda x: x.amin(3, keepdim=True),
    "sum": lambda x: x.sum(1, keepdim=True) * 0.3,
    "softmax": lambda x: x.softmax(1),
    "log softmax": lambda x: x.flatten(2).log_softmax(2).view_as(x),
    "softmax pooling": lambda x: (x * x.flatten(2).softmax(-1).view_as(x)).sum((2, 3), keepdim=True),
    "logsumexp": lambda x: x.logsumexp((2, 3), keepdim=True),
    "cumsum": lambda x: x.cumsum(2) * 0.3,
    "standard deviation": lambda x: (x.var((2, 3), keepdim=True, unbiased=False) + 0.1).sqrt() + 0 * x,
    "standardised": lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True, unbiased=False) + 0.5),
    "gated half": lambda x: functional.glu(torch.cat([x, x.tanh()], 1), 1),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcdh", x, x)[:, :, 0, :, None] * 0.2,
    "fold": lambda x: functional.fold(functional.unfold(x, 2, padding=1), (x.shape[2] + 2, x.shape[3] + 2), 2) * 0.5,
    "windows": lambda x: functional.pad(x, (0, 1, 0, 1)).unfold(2, 2, 1).mean(-1),
    "Fourier": lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[2:]),
    "upper": lambda x: x.triu(),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "product": lambda x: x.tanh().prod(1, keepdim=True),
    "outer product": lambda x: (x.mean((2, 3))[:, :, None] * x.mean((2, 3))[:, None])[..., None],
    "distance": lambda x: torch.cdist(x.flatten(2), torch.eye(2, math.prod(x.shape[2:])) + 0.3)[..., None] * 0.2,
}

#: Each joins two maps of one size.
JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "concatenate": lambda x, y: torch.concat([x, y], 1),
    "multiply": lambda x, y: x * y.tanh(),
    "gated": lambda x, y: x * y.sigmoid() + (1 - y.sigmoid()) * y,
    "divide": lambda x, y: x / (y.abs() + 1),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "choose": lambda x, y: torch.where(x > y, x, y * 0.5),
    "mix": lambda x, y: torch.lerp(x, y, 0.25),
    "match": lambda x, y: (x.flatten(2) @ y.flatten(2).mT).softmax(-1)[..., None],
    "stack": lambda x, y: torch.stack([x, y], 1).mean(1),
    "scatter": lambda x, y: torch.slice_scatter(x, y[:, :, :1], 2, 0, 1),
}


@dataclass(frozen=True)
class Plan:
    """A network: its operators with the maps that each takes, the images' size, and a seed for its weights."""

    steps: tuple[tuple[str, int, int], ...]
    size: tuple[int, int]
    channels: int
    seed: int

    def build(self) -> RandomNetwork:
        torch.manual_seed(self.seed)
        network = RandomNetwork(self).eval()
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.running_mean.uniform_(-0.5, 0.5)
                    layer.running_var.uniform_(0.5, 1.5)
        return network

    def images(self, count: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(count, self.channels, *self.size, generator=generator)


NAMES = sorted([*convolutions(1), *norms(1), *ELEMENTWISE, *SHAPES])
CENTRE = sorted(convolutions(1))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Networks of one to four operators on images of odd sizes, the more usual ones more often."""
    names = st.one_of(st.sampled_from(NAMES), st.sampled_from(CENTRE), st.sampled_from(sorted(JOINS)))
    place = st.integers(0, 4)
    steps = draw(st.lists(st.tuples(names, place, place), min_size=1, max_size=4))
    size = draw(st.sampled_from([(8, 8), (7, 9), (5, 6), (11, 4)]))
    return Plan(tuple(steps), size, draw(st.sampled_from([3, 3, 1, 4])), draw(st.integers(0, 2**16)))


#: What is cut off maps that grow larger.
CHANNELS, SIDE = 8, 12


class RandomNetwork(nn.Module):
    """What a plan says, between a convolution and a linear layer; each operator takes the last maps or earlier ones."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan, self.first = plan, nn.Conv2d(plan.channels, 4, 3, padding=1)
        self.steps, self.fits = nn.ModuleList(), nn.ModuleList()
        made = [self.first(plan.images())]
        for name, one, other in plan.steps:
            source, second = made[-1 - one % min(2, len(made))], made[-1 - other % len(made)]
            same = name not in JOINS or source.shape[1] == second.shape[1]
            self.fits.append(nn.Identity() if same else nn.Conv2d(second.shape[1], source.shape[1], 1))
            self.steps.append(make_layer(name, source.shape))
            made.append(self.step(len(self.steps) - 1, made))
        self.last = nn.Linear(made[-1].shape[1], 3)

    def step(self, place: int, made: Sequence[Tensor]) -> Tensor:
        name, one, other = self.plan.steps[place]
        source = made[-1 - one % min(2, len(made))]
        if name not in JOINS:
            return cut(self.steps[place](source))
        second = self.fits[place](made[-1 - other % len(made)])
        if second.shape[2:] != source.shape[2:]:
            second = functional.interpolate(second, source.shape[2:])
        return cut(JOINS[name](source, second))

    def forward(self, images: Tensor) -> Tensor:
        made = [self.first(images)]
        for place in range(len(self.steps)):
            made.append(self.step(place, made))
        return self.last(made[-1].mean((2, 3)))


def cut(maps: Tensor) -> Tensor:
    """Keep random networks small, and fast to trace."""
    fits = maps.shape[1] <= CHANNELS and max(maps.shape[2:]) <= SIDE
    return maps if fits else maps[:, :CHANNELS, :SIDE, :SIDE]


def make_layer(name: str, shape: Sequence[int]) -> nn.Module:
    """The layer of a name; maps of one row or column have no other to be padded with."""
    padded = name in ("reflecting convolution", "circular convolution")
    name = "convolution" if padded and min(shape[2:]) == 1 else name
    layers = convolutions(shape[1]) | norms(shape[1])
    if name in layers:
        return layers[name]()
    return Apply({**ELEMENTWISE, **SHAPES}[name]) if name not in JOINS else nn.Identity()

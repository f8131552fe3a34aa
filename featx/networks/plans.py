"""What each small network consists of, layer by layer, and where that is written.

The documents are D2 (a network beside a frozen ResNet-18), D3 (four networks and a grid of
variants) and D4 (a study of three depths). Their tables give the widths and the number of
parameters for ten classes at 32 x 32 px; the plans here hit every published number. Where a
document is silent:

- Convolutions are padded to keep the size, but for those of ``conv2`` and ``conv3``: only so do
  the numbers come out.
- Every pooling is a maximum over 2 x 2. Every convolution and every dense layer but the last is
  followed by a ReLU where no other activation is named.
- ``conv5`` normalizes before the ReLU, as is usual; ``cerberus`` behind it, as D3 says.
- ``conv3``, ``conv5`` and ``cerberus`` drop with probability 0.2, the only one that D3 states (for
  its grid).
- The grid's four convolutions have 3, 32, 64 and 128 filters, with a pooling behind each of the
  last three, and its dense layers 256, 128 and one output per class. The leaky variants keep the
  normalized convolutions with ReLU of ``grid-relu-bn`` and change the dense layers; the slope is
  torch's 0.01.
- ``custom`` has a dropout behind its last dense layer because D2's network has one.
"""

from __future__ import annotations

from dataclasses import dataclass

from featx.errors import UnknownName

# The documents' data: CIFAR-10.
N_CLASSES = 10
SIZE = 32

# The dropout of D3's grid, and of D2's network.
_D3_DROP = 0.2
_D2_DROP = 0.5


@dataclass(frozen=True)
class Layer:
    """One layer of a plan.

    Attributes
    ----------
    kind : str
        ``conv``, ``fc``, ``bn``, ``pool``, ``dropout``, ``relu``, ``leaky`` or ``gelu``.
    width : int
        Filters of a convolution, outputs of a dense layer.
    kernel, padding : int
        Of a convolution, in pixels.
    p : float
        Of a dropout: the probability that a value becomes 0.
    """

    kind: str
    width: int = 0
    kernel: int = 3
    padding: int = 1
    p: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A network: what works on maps, what works on vectors, what stands behind the output.

    Attributes
    ----------
    about : str
        One line: the layers, and the document.
    maps, vectors, behind : tuple of Layer
        Before the flattening; between it and the last dense layer; behind that.
    """

    about: str
    maps: tuple[Layer, ...]
    vectors: tuple[Layer, ...]
    behind: tuple[Layer, ...] = ()


RELU, LEAKY, GELU = Layer("relu"), Layer("leaky"), Layer("gelu")
BN, POOL = Layer("bn"), Layer("pool")


def _drop(p: float) -> Layer:
    return Layer("dropout", p=p)


def _convs(
    *widths: int, then: tuple[Layer, ...] = (RELU,), kernel: int = 3, padding: int = 1
) -> tuple[Layer, ...]:
    """Return convolutions of those widths, each with `then` behind it."""
    made: tuple[Layer, ...] = ()
    for width in widths:
        made += (Layer("conv", width, kernel, padding), *then)
    return made


def _dense(*widths: int, then: tuple[Layer, ...] = (RELU,)) -> tuple[Layer, ...]:
    """Return dense layers of those widths, each with `then` behind it."""
    return tuple(layer for width in widths for layer in (Layer("fc", width), *then))


def _study(*widths: int) -> tuple[Layer, ...]:
    """Return D4's blocks: two convolutions of a width, then a pooling."""
    return tuple(layer for width in widths for layer in (*_convs(width, width), POOL))


def _grid(about: str, conv: tuple[Layer, ...], dense: tuple[Layer, ...]) -> Plan:
    """Return a variant of D3's grid; `conv` and `dense` stand behind each layer of that kind."""
    return Plan(
        f"conv 3, conv 32/64/128 with pool, dense 256, 128, n; {about} (D3's grid)",
        _convs(3, then=conv) + _convs(32, 64, 128, then=(*conv, POOL)),
        _dense(256, 128, then=dense),
    )


_PLANS = {
    "conv2": Plan(
        "LeNet-like: conv 6 and 16 (5x5) with pool, dense 120, 84, n; ReLU (D3)",
        _convs(6, 16, then=(RELU, POOL), kernel=5, padding=0),
        _dense(120, 84),
    ),
    "conv3": Plan(
        "conv 32, 64, 64 (no padding) with pool, dense 128, 96, 84, n; dropout, GELU (D3)",
        _convs(32, 64, 64, then=(RELU, POOL), padding=0),
        _dense(128, 96, then=(GELU, _drop(_D3_DROP))) + _dense(84, then=(GELU,)),
    ),
    "conv5": Plan(
        "conv 32, 64, pool, 128, pool, 256, 256, pool with BN, dense 512, 128, 84, n; dropout (D3)",
        (
            *_convs(32, 64, then=(BN, RELU)), POOL,
            *_convs(128, then=(BN, RELU)), POOL,
            *_convs(256, 256, then=(BN, RELU)), POOL,
        ),
        (_drop(_D3_DROP), *_dense(512, 128, then=(RELU, _drop(_D3_DROP))), *_dense(84)),
    ),
    "cerberus": Plan(
        "3 x [4 x (conv, ReLU, BN), pool] with 64, 128, 256 filters, dense 128, n; dropout (D3)",
        tuple(
            layer
            for width in (64, 128, 256)
            for layer in (*_convs(*[width] * 4, then=(RELU, BN)), POOL)
        ),
        _dense(128, then=(RELU, _drop(_D3_DROP))),
    ),
    "cnn-a": Plan("2 x [2 x conv, pool] with 32, 64 filters, dense 128, n (D4)",
                  _study(32, 64), _dense(128)),
    "cnn-b": Plan("3 x [2 x conv, pool] with 32, 64, 128 filters, dense 128, n (D4)",
                  _study(32, 64, 128), _dense(128)),
    "cnn-c": Plan("4 x [2 x conv, pool] with 32, 64, 128, 256 filters, dense 128, n (D4)",
                  _study(32, 64, 128, 256), _dense(128)),
    "custom": Plan(
        "conv 32, pool, 64, pool, 128, dense 512 with BN, n; dropout 0.5, also behind n (D2)",
        _convs(32, 64, then=(RELU, POOL)) + _convs(128),
        _dense(512, then=(BN, RELU, _drop(_D2_DROP))),
        behind=(_drop(_D2_DROP),),
    ),
    "grid-relu": _grid("ReLU", (RELU,), (RELU,)),
    "grid-relu-bn": _grid("ReLU, BN on convolutions", (BN, RELU), (RELU,)),
    "grid-leaky-bn": _grid("BN on convolutions, leaky ReLU on dense", (BN, RELU), (LEAKY,)),
    "grid-leaky-bn-dropout": _grid(
        "as grid-leaky-bn, dropout 0.2 on dense", (BN, RELU), (LEAKY, _drop(_D3_DROP))
    ),
}  # fmt: skip


def zoo_names() -> list[str]:
    """Return the names of the small networks, in the documents' order."""
    return list(_PLANS)


def find_plan(name: str) -> Plan:
    """Return the plan of a network.

    Raises
    ------
    UnknownName
        Names the closest ones.
    """
    if name not in _PLANS:
        raise UnknownName("Network", name, _PLANS, where="featx' own networks")
    return _PLANS[name]


def about_zoo(name: str) -> str:
    """Return one line on a network: its layers, and the document it comes from.

    Raises
    ------
    UnknownName
        When there is no such network.
    """
    return find_plan(name).about

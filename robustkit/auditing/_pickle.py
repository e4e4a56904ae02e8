"""A pickle read as data: a stack machine that imports nothing, calls nothing and allocates no tensor.

``torch.load(weights_only=True)`` calls an allow-list of functions on the file's arguments, among them
``bytearray(10**10)`` and ``torch.FloatTensor(10**10)``, and had holes of its own (CVE-2025-32434 in torch < 2.6; later,
memory corruption through SETITEM). Here every global is a name. The handful that mean "a tensor" become a
:class:`~._tensors.TensorRef`, known harmless ones (numpy scalars, ``argparse.Namespace``) an inert :class:`Thing`, and
any other is refused, by name. What comes out is plain dicts, lists, strings, numbers, and declarations to be checked.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from robustkit.auditing._limits import PICKLE_OPS, Damaged, clean
from robustkit.auditing._tensors import DTYPES, STORAGES, TYPE, StorageRef, TensorRef, integer, integers, of_type

_INERT = """
    argparse.Namespace types.SimpleNamespace easydict.EasyDict yacs.config.CfgNode uuid.UUID
    numpy.core.multiarray.scalar numpy._core.multiarray.scalar numpy.core.multiarray._reconstruct
    numpy._core.multiarray._reconstruct numpy.dtype numpy.ndarray pathlib.Path pathlib.PosixPath
    pathlib.WindowsPath pathlib.PurePosixPath pathlib.PureWindowsPath datetime.datetime datetime.date
    datetime.timedelta datetime.timezone typing.Any builtins.set builtins.frozenset builtins.bytearray
    builtins.complex builtins.slice builtins.range builtins.dict builtins.list builtins.int builtins.float
    builtins.str builtins.bool _io.BytesIO _codecs.encode torch.device torch.Size torch.torch_version.TorchVersion
    torch.serialization._get_layout torch.Tensor torch.nn.parameter.Parameter torch.nn.parameter.Buffer
    torch.qint8 torch.quint8 torch.qint32 torch.per_tensor_affine torch.per_channel_affine torch.per_tensor_symmetric
    torch.per_channel_symmetric
    torch.jit._pickle.build_intlist torch.jit._pickle.build_doublelist torch.jit._pickle.build_boollist
    torch.jit._pickle.build_tensorlist torch.jit._pickle.restore_type_tag
"""
INERT = frozenset(_INERT.split())
INERT_PREFIXES = ("omegaconf.", "pytorch_lightning.", "lightning.", "lightning_fabric.")
DICTS = frozenset({"collections.OrderedDict", "collections.defaultdict", "collections.Counter"})
MOVED = {"__builtin__": "builtins", "copy_reg": "copyreg", "pathlib._local": "pathlib"}  # in Python 2, and in 3.13
UNREADABLE = {
    "_rebuild_sparse_tensor": "sparse", "_rebuild_sparse_csr_tensor": "sparse", "_rebuild_qtensor": "quantised",
    "_rebuild_nested_tensor": "nested", "_rebuild_meta_tensor_no_storage": "without data (meta device)",
    "_rebuild_wrapper_subclass": "of a subclass", "_rebuild_device_tensor_from_numpy": "on a special device",
    "_rebuild_device_tensor_from_cpu_tensor": "on a special device",
}  # fmt: skip
REBUILT = frozenset(
    {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter",
     "_rebuild_parameter_with_state"}
)  # fmt: skip


class NeedsCode(Exception):
    """The pickle asks for ``name``, which only running its code can give."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True)
class Name:
    """A global that the pickle names; nothing was imported."""

    path: str


@dataclass(eq=False)
class Thing:
    """An object that the pickle would have made by calling ``maker``; nothing was called."""

    maker: str
    state: Any = None


class _Mark:
    pass


MARK = _Mark()


def parse(stream: BinaryIO, *, torchscript: bool = False, itemsize: dict[str, int] | None = None) -> Any:
    """Read one pickle from a stream, leaving the stream behind its end.

    Parameters
    ----------
    stream : binary file
        Bounded by the caller to :data:`~._limits.PICKLE_BYTES`.
    torchscript : bool
        Take ``__torch__.*`` classes, which TorchScript's attribute tree names, as inert.
    itemsize : dict, optional
        Filled with the bytes of an element of every storage that is named, whether or not its tensor can be read.

    Raises
    ------
    NeedsCode
        If a global is named that is neither a tensor nor known to be harmless.
    Damaged
        If it is no pickle, too long, or declares impossible tensors.
    """
    machine = _Machine(torchscript, {} if itemsize is None else itemsize)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count > PICKLE_OPS:
                # Cause: a checkpoint names a few thousand tensors; this one is built to keep a reader busy.
                raise Damaged(f"holds a pickle of more than {PICKLE_OPS} steps")
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except (NeedsCode, Damaged):
        raise
    except Exception as error:  # any garbage: stack underflow, bad text, missing memo entries, ...
        # Cause: the file was cut off while it was copied, or changed.
        raise Damaged(f"holds a pickle that cannot be read ({type(error).__name__}: {clean(error)})") from None


class _Machine:
    def __init__(self, torchscript: bool, itemsize: dict[str, int]) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.torchscript, self.itemsize = torchscript, itemsize

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode]())
        elif opcode in _LITERALS:
            stack.append(argument)
        elif opcode in _IGNORED:
            pass
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode in _TUPLES:
            n = _TUPLES[opcode]
            stack[-n:] = [tuple(stack[-n:])]
        elif opcode == "TUPLE":
            stack.append(tuple(self._marked()))
        elif opcode in ("FROZENSET", "ADDITEMS"):
            self._marked()
            if opcode == "FROZENSET":
                stack.append(Thing("builtins.frozenset"))
        elif opcode == "GLOBAL":
            stack.append(self._name(*argument.split(" ", 1)))
        elif opcode == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(self._name(module, name))
        else:
            self._compound(opcode)

    def _compound(self, opcode: str) -> None:
        stack = self.stack
        if opcode == "APPEND":
            item = stack.pop()
            _extend(stack[-1], [item])
        elif opcode == "APPENDS":
            items = self._marked()
            _extend(stack[-1], items)
        elif opcode == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _update(stack[-1], [key, value])
        elif opcode == "SETITEMS":
            items = self._marked()
            _update(stack[-1], items)
        elif opcode in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            if opcode == "NEWOBJ_EX":
                stack.pop()
            args = stack.pop()
            stack[-1] = _made(stack[-1], args)
        elif opcode == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Thing):
                stack[-1].state = state
        elif opcode == "BINPERSID":
            stack[-1] = storage = _storage(stack[-1])
            if isinstance(storage, StorageRef):
                self.itemsize[storage.key] = storage.dtype.itemsize
        else:
            # Cause: another program wrote the pickle (protocol 0 or 1, or other objects in it).
            raise Damaged(f"holds a pickle with the step {opcode}, which torch.save does not write")

    def _marked(self) -> list[Any]:
        stack = self.stack
        start = len(stack) - 1
        while stack[start] is not MARK:  # a missing mark ends in an IndexError below -len
            start -= 1
        items = stack[start + 1 :]
        del stack[start:]
        return items

    def _name(self, module: Any, name: Any) -> Name:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Damaged("holds a pickle whose global is not a name")
        path = f"{MOVED.get(module, module)}.{name}"
        last = name.rpartition(".")[2]
        known = (
            path in INERT or path in DICTS or TYPE.fullmatch(path) or path.startswith(INERT_PREFIXES)
            or (module in ("torch", "torch.storage", "torch.cuda") and last.endswith("Storage"))
            or (module == "torch._utils" and (name in REBUILT or name in UNREADABLE))
            or path == "torch._tensor._rebuild_from_type_v2"
            or (self.torchscript and path.startswith("__torch__."))
        )  # fmt: skip
        if not known:
            raise NeedsCode(path)
        return Name(path)


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Thing):
        raise Damaged("holds a pickle that appends to something else than a list")


def _update(target: Any, items: list[Any]) -> None:
    if isinstance(target, Thing):
        return
    if not isinstance(target, dict) or len(items) % 2:
        raise Damaged("holds a pickle that sets items of something else than a dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_key(key)] = value


def _key(key: Any) -> str:
    """Keys become text: deep tuples would overflow C's stack in hash(), chosen ints collide by the million."""
    if isinstance(key, bytes):
        return key.decode("latin-1")
    return key if isinstance(key, str) else str(key) if isinstance(key, int | float) else f"<{type(key).__name__}>"


def _made(maker: Any, args: Any) -> Any:
    if not isinstance(maker, Name) or not isinstance(args, tuple):
        raise Damaged("holds a pickle that calls something else than a name")
    module, _, name = maker.path.rpartition(".")
    if maker.path in DICTS:
        made: dict[str, Any] = {}
        for pair in args[0] if args and isinstance(args[0], list) else ():
            _update(made, list(pair))
        return made
    if maker.path == "torch.Size" and args and isinstance(args[0], tuple | list):
        return tuple(args[0])
    if maker.path == "torch._tensor._rebuild_from_type_v2":
        kind = args[1].path if isinstance(args[1], Name) else ""
        inner = _made(args[0], args[2])
        if isinstance(inner, TensorRef) and kind not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
            return TensorRef(None, problem="of a subclass")
        return inner
    if module == "torch.nn.parameter" and args and isinstance(args[0], TensorRef):
        return args[0]
    if module == "torch._utils":
        return TensorRef(None, problem=UNREADABLE[name]) if name in UNREADABLE else _tensor(name, args)
    return Thing(maker.path)


def _tensor(name: str, args: tuple[Any, ...]) -> Any:
    if name.startswith("_rebuild_parameter"):
        return args[0]
    storage, offset, size, stride = args[:4]
    if isinstance(storage, TensorRef):  # the storage itself cannot be read
        return storage
    if not isinstance(storage, StorageRef):
        # Cause: the pickle was changed, or another program wrote it.
        raise Damaged("holds a pickle with a tensor without storage")
    dtype = storage.dtype
    if name == "_rebuild_tensor_v3":
        asked = args[6].path if isinstance(args[6], Name) else ""
        if asked not in DTYPES:
            return TensorRef(None, problem=of_type(asked))
        dtype = DTYPES[asked]
    return TensorRef(storage, integer(offset), integers(size), integers(stride), dtype)


def _storage(pid: Any) -> Any:
    """Read ``("storage", type, key, location, numel)``, with a view of it behind in old files."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or _key(pid[0]) != "storage":
        raise Damaged("holds a pickle with a reference that is no tensor storage")
    kind = pid[1].path.rpartition(".")[2] if isinstance(pid[1], Name) else ""
    if kind not in STORAGES:
        return TensorRef(None, problem=of_type(kind))
    numel, base = integer(pid[4]), 0
    if len(pid) == 6 and pid[5] is not None:
        _, base, numel = pid[5]
    return StorageRef(_key(pid[2]), STORAGES[kind], integer(numel), integer(base))


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple, "EMPTY_LIST": list,
    "EMPTY_DICT": dict, "EMPTY_SET": lambda: Thing("builtins.set"), "MARK": lambda: MARK,
}  # fmt: skip
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
     "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING",
     "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
)  # fmt: skip
_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

"""Made inputs for the fuzzer: experiment files, image trees, image files and command lines, each from a seed."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fcdd_sweep.cli import COMMANDS
from fcdd_sweep.config.yaml_text import to_yaml
from tests import trees

ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**64 + 1, -(2**63) - 1, 10**400, 0.5, 1e-320, 1e308, -0.0),
    *("", " ", "x", "none", "all", "auto", "1", "1e3", "0x10", "08", "5m", "5 epochs", "~", "~nobody/x", "$HOME/x"),
    *(
        "D:\\new\\parts",
        "../..",
        "/",
        "/proc/self/mem",
        "/dev/zero",
        "a/b",
        "a\nb",
        "\0",
        "\x1b[31m",
        "ü",
        "日本",
        "🦀",
    ),
    *("x" * 300, "é" * 200, "CON", ".", "..", "-", "--", "s3://", "s3://b/x", "https://x", "{}", "[]", "!!python/x"),
    *([], [[]], {}, {"a": {}}, [1, 1], [0, -1], [None], ["x"] * 50, {"x": 1}, {"dataset": "digits"}, {"folder": "/"}),
    *({"from_test": 0}, {"log": [0.1, 0.1]}, {"log": [0, 1]}, {"choices": []}, {"int": [3, 1]}, {"type": "steps"}),
]
SPECIAL_TEXTS = [
    "nan",
    ".nan",
    ".inf",
    "-.inf",
    "2026-01-02",
    "!!set {a}",
    "&a [*a]",
    "*a",
    "<<: {a: 1}",
    "0o7",
    "1_000",
]
ODD_NAMES = [
    *("x", "Train", "TRAIN", "test", "train", "normal", "good", "ok", "NG", "MASK", "bad", "crack", "ground_truth"),
    *("abnormal", "anomalous", "日本語", "🦀", "a b", "a\nb", "-rf", "--set", "x" * 240, ".hidden", "__MACOSX", "con"),
    *("test_maps", "train_maps", "1", "a;b", "a'b", 'a"b', "%s", "{x}", "$HOME", "~", "\x1b[31m"),
]
BYTES_NAMES = [b"caf\xe9", b"\xff\xfe", b"a\xc3"]
ENDINGS = [
    ".png",
    ".PNG",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".webp",
    ".heic",
    ".txt",
    "",
    ".npy",
    ".mp4",
]
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]
WRITERS = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"],
    "JPEG": ["L", "RGB", "CMYK"],
    "TIFF": MODES,
    "GIF": ["1", "L", "P", "RGB"],
    "BMP": ["1", "L", "P", "RGB"],
    "WEBP": ["RGB", "RGBA"],
}


def experiment_text(base: dict[str, Any], keys: list[tuple[str, ...]], draw: random.Random) -> bytes:
    """Return an experiment file: `base` with some keys changed, then sometimes damaged as text."""
    tree = _copied(base)
    for _ in range(draw.choice([1, 1, 2, 3])):
        draw.choice([_set_value, _set_value, _set_value, _misspell, _remove, _nest])(tree, draw.choice(keys), draw)
    try:
        text = to_yaml(tree)
    except Exception:
        text = to_yaml(base)
    for _ in range(draw.choice([0, 0, 0, 1, 2])):
        text = draw.choice([_special, _repeat_line, _indent, _cut])(text, draw)
    data = text.encode("utf-8", "surrogatepass")
    return draw.choice([_as_is] * 9 + [_byte_flip, _other_encoding, _deep])(data, draw)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _holder(tree: dict[str, Any], key: tuple[str, ...]) -> dict[str, Any]:
    for part in key[:-1]:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    return tree


def _set_value(tree: dict[str, Any], key: tuple[str, ...], draw: random.Random) -> None:
    cut = key[: draw.randint(1, len(key))] if draw.random() < 0.2 else key
    _holder(tree, cut)[cut[-1]] = _copied(draw.choice(ODD_VALUES))


def _misspell(tree: dict[str, Any], key: tuple[str, ...], draw: random.Random) -> None:
    name = list(key[-1])
    name[draw.randrange(len(name))] = draw.choice("abcxyz_-. é")
    _holder(tree, key)["".join(name)] = draw.choice(ODD_VALUES[:20])


def _remove(tree: dict[str, Any], key: tuple[str, ...], draw: random.Random) -> None:
    _holder(tree, key).pop(key[-1], None)


def _nest(tree: dict[str, Any], key: tuple[str, ...], draw: random.Random) -> None:
    dotted = ".".join(key)
    value = [_copied(draw.choice(ODD_VALUES)) for _ in range(draw.randint(0, 3))]
    where = draw.choice(["grid", "variants", "search"])
    if where == "grid":
        _holder(tree, ("grid", dotted))[dotted] = value
    elif where == "variants":
        _holder(tree, ("variants", "one", dotted))[dotted] = draw.choice(ODD_VALUES)
    else:
        tree["search"] = {"budget": {"configs": 2}, "space": {dotted: draw.choice(ODD_VALUES)}}


def _special(text: str, draw: random.Random) -> str:
    lines = text.splitlines() or [""]
    at = draw.randrange(len(lines))
    lines[at] = lines[at].partition(":")[0] + ": " + draw.choice(SPECIAL_TEXTS)
    return "\n".join(lines) + "\n"


def _repeat_line(text: str, draw: random.Random) -> str:
    lines = text.splitlines() or [""]
    return "\n".join([*lines, draw.choice(lines)]) + "\n"


def _indent(text: str, draw: random.Random) -> str:
    lines = text.splitlines() or [""]
    at = draw.randrange(len(lines))
    lines[at] = draw.choice(["\t", "   ", "- ", "? ", "# ", "--- "]) + lines[at]
    return "\n".join(lines) + "\n"


def _cut(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text) + 1)]


def _as_is(data: bytes, draw: random.Random) -> bytes:
    return data


def _byte_flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data or b"x")
    for _ in range(draw.randint(1, 5)):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _other_encoding(data: bytes, draw: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return draw.choice([b"\xef\xbb\xbf" + data, text.encode("utf-16"), data.replace(b"\n", b"\r\n"), data + b"\0"])


def _deep(data: bytes, draw: random.Random) -> bytes:
    return draw.choice([b"name: " + b"[" * 3000, b"a: &a [x]\nb: &b [*a,*a]\nc: [*b,*b]\n" + data, b"", b"\n" * 50])


def image_tree(root: Path, draw: random.Random) -> None:
    """Write a tree of small images in one of the known layouts, then change some of its names and files."""
    draw.choice([trees.write_mvtec, trees.write_class_first, trees.write_split_first])(root)
    for _ in range(draw.randint(1, 4)):
        found = sorted(root.rglob("*"))
        if found:
            with contextlib.suppress(OSError):  # a name that this file system refuses
                draw.choice(TREE_CHANGES)(draw.choice(found), draw)


def _named(path: Path, draw: random.Random) -> Path | str | bytes:
    if draw.random() < 0.1:
        return os.fsencode(path.parent) + b"/" + draw.choice(BYTES_NAMES) + os.fsencode(path.suffix)
    return path.with_name(draw.choice(ODD_NAMES) + (draw.choice(ENDINGS) if path.is_file() else ""))


def _rename(path: Path, draw: random.Random) -> None:
    path.rename(os.fsdecode(_named(path, draw)))


def _delete(path: Path, draw: random.Random) -> None:
    if path.is_dir() and not path.is_symlink():
        for inner in sorted(path.rglob("*"), reverse=True):
            inner.rmdir() if inner.is_dir() and not inner.is_symlink() else inner.unlink()
        path.rmdir()
    else:
        path.unlink()


def _add_file(path: Path, draw: random.Random) -> None:
    folder = path if path.is_dir() else path.parent
    content = draw.choice([b"", b"text", b"\x89PNG\r\n\x1a\n", os.urandom(0) + bytes(draw.randbytes(40))])
    (folder / (draw.choice([*ODD_NAMES, ".DS_Store", "Thumbs.db"]) + draw.choice(ENDINGS))).write_bytes(content)


def _link(path: Path, draw: random.Random) -> None:
    folder = path if path.is_dir() else path.parent
    target = draw.choice([folder, folder.parent, Path("nowhere"), Path("self.png"), path])
    (folder / draw.choice(["self.png", "link", "link.png"])).symlink_to(target)


def _pipe(path: Path, draw: random.Random) -> None:
    os.mkfifo((path if path.is_dir() else path.parent) / draw.choice(["pipe.png", "pipe", "train"]))


def _file_for_folder(path: Path, draw: random.Random) -> None:
    if path.is_dir():
        _delete(path, draw)
        path.write_bytes(b"not a folder")
    else:
        path.unlink()
        path.mkdir()


def _damage(path: Path, draw: random.Random) -> None:
    if path.is_file():
        path.write_bytes(image_bytes(draw))


def _nest_folder(path: Path, draw: random.Random) -> None:
    if path.is_dir():
        inner = path.with_name("moved")
        path.rename(inner)
        path.mkdir()
        inner.rename(path / draw.choice(["inner", path.name, "train"]))


def _resize(path: Path, draw: random.Random) -> None:
    if path.is_file():
        trees.write_image(
            path.with_suffix(".png"), (draw.randint(1, 60), draw.randint(1, 60)), draw.choice(["L", "RGB"])
        )


TREE_CHANGES: list[Callable[[Path, random.Random], None]] = [
    *(_rename, _rename, _delete, _add_file, _link, _pipe, _file_for_folder, _damage, _nest_folder, _resize),
]


def image_bytes(draw: random.Random) -> bytes:
    """Return an image file of a random format and mode, whole or damaged."""
    kind = draw.choice(list(WRITERS))
    data = _encoded(kind, draw.choice(WRITERS[kind]), draw)
    return draw.choice([_as_is, _as_is, _byte_flip, _truncated, _padded, _huge, _head_only])(data, draw)


def _encoded(kind: str, mode: str, draw: random.Random) -> bytes:
    size = draw.choice([(1, 1), (1, 40), (24, 20), (33, 7)])
    array = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (*size, 4))
    image = Image.fromarray(array.astype(np.uint8), "RGBA")
    if mode in ("I;16", "I", "F"):
        kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
        values = array[..., 0] * draw.choice([1, 16, 256])
        if mode == "F" and draw.random() < 0.3:
            values = np.where(values > 128, np.nan, values)
        image = Image.fromarray(values.astype(kinds[mode]))
    else:
        image = image.convert("RGB").convert(mode) if mode not in ("LA", "RGBA") else image.convert(mode)
    more: dict[str, Any] = {}
    if kind in ("TIFF", "GIF", "WEBP") and draw.random() < 0.3:
        more = {"save_all": True, "append_images": [image, image]}
    if kind in ("JPEG", "PNG", "WEBP") and draw.random() < 0.3:
        exif = Image.Exif()
        exif[0x0112] = draw.choice([0, 3, 6, 8, 99])
        more |= {"exif": exif.tobytes()}
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=kind, **more)
    except (OSError, ValueError, KeyError):  # a combination that Pillow does not write
        image.convert("L").save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


def _truncated(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _padded(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.randint(1, 100))


def _huge(data: bytes, draw: random.Random) -> bytes:
    """A PNG that declares far more pixels than it has."""
    side = draw.choice([20_000, 70_000, 2**31 - 1])
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(*each) for each in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _head_only(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randint(0, 12)]


def command_line(files: list[str], keys: list[tuple[str, ...]], draw: random.Random) -> list[str]:
    """Return arguments: a command, existing and odd files for its places, and options that fit or do not."""
    names = [*files, *(str(value) for value in ODD_VALUES if isinstance(value, str)), "list", "-h", "--version"]
    command = draw.choice([*COMMANDS, "", "stauts", "Run"])
    options = [
        lambda: ["--set", f"{'.'.join(draw.choice(keys))}={draw.choice(ODD_VALUES)}"],
        lambda: ["--set", draw.choice(["", "=", "a", "a=", "=a", "a.b.c=1", "training..epochs=1", "grid=1"])],
        lambda: [draw.choice(["--redraw", "--show-config", "--probe-cost", "--dry-run", "--nonsense", "-v"])],
        lambda: [draw.choice(["--batch-size", "--tile", "--threshold"]), str(draw.choice(ODD_VALUES[:15]))],
        lambda: ["--device", draw.choice(["cpu", "cuda", "mps", "gpu", ""])],
        lambda: ["--pictures", draw.choice(["auto", "all", "none", "anomalous", "some"])],
        lambda: [draw.choice(["--output", "--labels", "-o", "--onnx", "--torch", "--images"]), draw.choice(names)],
        lambda: ["--layout", draw.choice(["auto", "labels", "classes", "mvtec", "good_bad", "flat", "x", ""])],
        lambda: ["--group", draw.choice([r"^(part\d+)_", "(", "", "(a)(b)", "[", "x", "(?P<a>.)*", "\\"])],
        lambda: ["--native-scale"],
        lambda: [draw.choice(names)],
    ]
    given = [word for _ in range(draw.randint(0, 3)) for word in draw.choice(options)()]
    places = [draw.choice(files if draw.random() < 0.7 else names) for _ in range(draw.choice([0, 1, 1, 1, 2, 3]))]
    safe = {"doctor": "--no-ray"} | dict.fromkeys(("run", "", "baselines", "Run", "stauts"), "--dry-run")
    return [word for word in [command, *places, *given, safe.get(command, "")] if word or draw.random() < 0.05]

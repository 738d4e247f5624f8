"""Parameters: what is misspelt, missing or of another type stops the stage, by its full path."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from pipelines import params


@dataclass(frozen=True, kw_only=True)
class Inner:
    share: float = 0.5
    """In 0..1."""
    depth: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be in 0..1, got {self.share}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    epochs: int
    lr: float
    kind: Literal["step", "cosine"] = "step"
    decay: float | None = None
    image_hw: tuple[int, int] = (64, 48)
    names: tuple[str, ...] = ()
    weights: dict[str, float] | None = None
    verbose: bool = False
    inner: Inner = field(default_factory=Inner)


WHOLE = {"epochs": 3, "lr": 0.1}


def read(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return path


def test_every_annotated_type_is_built() -> None:
    raw = {
        **WHOLE,
        "kind": "cosine",
        "decay": None,
        "image_hw": [128, 96],
        "names": ["a", "b"],
        "weights": {"a": 1, "b": 0.5},
        "verbose": True,
        "inner": {"share": 1},
    }
    made = params.from_mapping(Sample, raw, "x")
    assert made == Sample(
        epochs=3, lr=0.1, kind="cosine", image_hw=(128, 96), names=("a", "b"), verbose=True,
        weights={"a": 1.0, "b": 0.5}, inner=Inner(share=1.0),
    )  # fmt: skip
    assert isinstance(made.inner.share, float)  # a whole number is a float where one is wanted


@pytest.mark.parametrize("text", ["5e-4", "5.0e-4", "0.0005", "5E-4"])
def test_a_number_in_any_notation_is_a_float(tmp_path: Path, text: str) -> None:
    """As DVC reads it; PyYAML would give the string '5e-4'."""
    path = read(tmp_path, f"train: {{epochs: 1, lr: {text}}}")
    assert params.from_mapping(Sample, params.section(path, "train"), "train").lr == 5e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epohcs": 3}, r"^a\.b\.epohcs: no such key; expected one of .*epochs"),
        ({"inner": {"shrae": 1}}, r"^a\.b\.inner\.shrae: no such key; expected one of depth, share"),
        ({"share": 0.1}, r"^a\.b\.share: no such key; .*; it is a\.b\.inner\.share now"),
        ({"epochs": "3"}, r"^a\.b\.epochs: got '3', expected int"),
        ({"epochs": 3.5}, r"^a\.b\.epochs: got 3\.5, expected int"),
        ({"epochs": True}, r"^a\.b\.epochs: got True, expected int"),
        ({"epochs": None}, r"^a\.b\.epochs: got None, expected int"),
        ({"lr": "fast"}, r"^a\.b\.lr: got 'fast', expected float"),
        ({"lr": True}, r"^a\.b\.lr: got True, expected float"),
        ({"lr": float("nan")}, r"^a\.b\.lr: got nan, expected a finite number"),
        ({"decay": "none"}, r"^a\.b\.decay: got 'none', expected float"),
        ({"kind": "linear"}, r"^a\.b\.kind: got 'linear', expected one of 'step', 'cosine'"),
        ({"verbose": 1}, r"^a\.b\.verbose: got 1, expected bool"),
        ({"image_hw": 128}, r"^a\.b\.image_hw: got 128, expected a list"),
        ({"image_hw": [128]}, r"^a\.b\.image_hw: got \[128\], expected 2 values"),
        ({"image_hw": [128, "96"]}, r"^a\.b\.image_hw\[1\]: got '96', expected int"),
        ({"names": "a"}, r"^a\.b\.names: got 'a', expected a list"),
        ({"weights": ["a"]}, r"^a\.b\.weights: got \['a'\], expected a mapping of names"),
        ({"weights": {1: 1}}, r"^a\.b\.weights: got \{1: 1\}, expected a mapping of names"),
        ({"weights": {"a": "b"}}, r"^a\.b\.weights\.a: got 'b', expected float"),
        ({"inner": 0.5}, r"^a\.b\.inner: expected a mapping of keys, got 0\.5"),
        ({"inner": None}, r"^a\.b\.inner: expected a mapping of keys, got None"),
        ({"inner": {"share": 2.0}}, r"^a\.b\.inner: share must be in 0\.\.1, got 2\.0"),
    ],
)
def test_a_bad_value_is_named_by_its_full_path(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        params.from_mapping(Sample, {**WHOLE, **change}, "a.b")


def test_a_missing_key_is_named_by_its_full_path() -> None:
    with pytest.raises(ValueError, match=r"^a\.b\.epochs, a\.b\.lr: missing; add it to params\.yaml"):
        params.from_mapping(Sample, {}, "a.b")


def test_a_later_section_overlays_an_earlier_one(tmp_path: Path) -> None:
    path = read(
        tmp_path,
        "common: {epochs: 1, lr: 0.1, inner: {share: 0.1}, weights: {a: 1}}\n"
        "sizes: {nano: {epochs: 5, inner: {depth: 3}, weights: {b: 2}}, tiny: }\n",
    )
    nano = params.overlay(Sample, path, "common", "sizes.nano")
    assert (nano.epochs, nano.lr) == (5, 0.1)
    assert nano.inner == Inner(share=0.1, depth=3)  # a nested configuration, key by key
    assert nano.weights == {"b": 2.0}  # any other value as a whole
    assert params.overlay(Sample, path, "common", "sizes.tiny").epochs == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("common: {epohcs: 1, lr: 0.1}\nsizes: {nano: {epochs: 1}}", r"^common\.epohcs: no such key"),
        ("common: {lr: x}\nsizes: {nano: {epochs: 1}}", r"^common\.lr: got 'x', expected float"),
        ("common: {lr: 0.1}\nsizes: {nano: {epochs: x}}", r"^sizes\.nano\.epochs: got 'x'"),
        ("common: {lr: 0.1}\nsizes: {nano: {}}", r"^sizes\.nano\.epochs: missing"),
        (
            "common: {epochs: 1, lr: 0.1, inner: {share: x}}\nsizes: {nano: {inner: {depth: 2}}}",
            r"^common\.inner\.share: got 'x'",
        ),
        ("common: {share: 1}\nsizes: {nano: {}}", r"^common\.share: no such key.* common\.inner\.share"),
    ],
)
def test_of_several_sections_the_one_at_fault_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        params.overlay(Sample, read(tmp_path, text), "common", "sizes.nano")


def test_a_section_that_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    path = read(tmp_path, "sizes: {nano: {epochs: 1}, 2: {}}\nlist: [1]\nnone:\n")
    with pytest.raises(ValueError, match=r"section sizes\.tiny is missing; in sizes there: 2, nano"):
        params.section(path, "sizes.tiny")
    with pytest.raises(ValueError, match=r"section size is missing; in the top level there: list, none"):
        params.section(path, "size")
    with pytest.raises(ValueError, match=r"section none\.x is missing; in none there: no keys"):
        params.section(path, "none.x")
    with pytest.raises(ValueError, match="list must be a mapping"):
        params.section(path, "list")
    assert params.section(path, "none") == {}
    with pytest.raises(FileNotFoundError, match="repository's root"):
        params.section(tmp_path / "absent.yaml", "sizes")


@pytest.mark.parametrize("text", ["a: [1", "a: 1\na: 2\n", "a:\n\t- 1\n"])
def test_what_is_not_yaml_is_refused(tmp_path: Path, text: str) -> None:
    """A key given twice included: the second would win without a word."""
    path = read(tmp_path, text)
    for reading in (params.section, params.names):
        with pytest.raises(ValueError, match=r"params\.yaml is not valid YAML"):
            reading(path, "a")


def test_names_are_a_list_of_names(tmp_path: Path) -> None:
    path = read(tmp_path, "models: [a, b]\nempty: []\nnumbers: [1]\n")
    assert params.names(path, "models") == ["a", "b"]
    for key in ("empty", "numbers", "absent"):
        with pytest.raises(ValueError, match=f"{key} must be a list of names"):
            params.names(path, key)


def test_the_input_size_is_checked_wherever_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = "\nfinetune: {sizes: {tiny: {epochs: 1}}}"

    def model() -> params.ModelConfig:
        return params.model("finetune.sizes.tiny")

    read(tmp_path, "model: {image_hw: [128, 96], head: simple}" + entry)
    assert params.image_hw() == model().image_hw == (128, 96)
    for text, message in (
        ("model: {image_hw: 128}", r"^model\.image_hw: got 128, expected a list"),
        ("model: {head: simple}", r"^model\.image_hw: missing"),
    ):
        read(tmp_path, text + entry)
        for reading in (params.image_hw, model):
            with pytest.raises(ValueError, match=message):
                reading()

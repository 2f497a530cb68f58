"""The table of data sets, and the modules that it names."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

import pytest

from fcdd_sweep.config.schema import Dataset, Images
from fcdd_sweep.data.registry import (
    DATA_SETS,
    DatasetModule,
    DiscoveringModule,
    FetchingModule,
    StreamedModule,
    info,
    module_of,
    swept,
)


def functions_of(protocol: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(function)
        for base in protocol.__mro__
        for name, function in vars(base).items()
        if inspect.isfunction(function) and not name.startswith("_")
    }


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_module_offers_what_the_registry_states(name: str) -> None:
    module, known = module_of(name), info(name)
    assert isinstance(module, DatasetModule)
    open_facts = None in (known.protocol, known.classes, known.maps, known.trains_with_anomalies)
    assert isinstance(module, DiscoveringModule) == open_facts
    assert isinstance(module, FetchingModule) == known.downloads
    assert isinstance(module, StreamedModule) == known.streamed


@pytest.mark.parametrize("protocol", [DatasetModule, DiscoveringModule, FetchingModule, StreamedModule])
@pytest.mark.parametrize("name", DATA_SETS)
def test_functions_of_modules_have_the_signatures_of_the_protocols(name: str, protocol: type) -> None:
    module = module_of(name)
    for function, expected in functions_of(protocol).items():
        if not isinstance(module, protocol):
            continue
        found = inspect.signature(getattr(module, function))
        wanted = [parameter for parameter in expected.parameters.values() if parameter.name != "self"]
        assert list(found.parameters.values()) == wanted and found.return_annotation == expected.return_annotation


def test_a_data_set_for_outlier_exposure_alone_cannot_be_swept() -> None:
    alone = [name for name, entry in DATA_SETS.items() if entry.exposure_only]
    assert alone == ["imagenet22k"] and not set(alone) & set(swept())
    (problem,) = module_of("imagenet22k").scan(Dataset(name="imagenet22k"), Images(load_size=16, size=16)).problems
    assert "serves as outlier exposure alone" in str(problem) and "mvtec" in str(problem)


def test_a_module_without_scan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, info("digits").module, ModuleType("stripes"))
    with pytest.raises(TypeError, match="stripes must have a function scan"):
        module_of("digits")


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        module_of("cifar11")

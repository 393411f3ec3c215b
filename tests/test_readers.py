"""Compiled and eager readers: the same vectors, padded batches, and one line when a network cannot be compiled."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import shapes_data, tiny_data, tiny_net

import probe
from probe.cache.requests import network_request
from probe.features import network_reader
from probe.features.network_reader import REPAYS, NotCompiledError, Reader, settle
from probe.settings import Extraction, ProbeGrid
from probe.studies.layerwise import run_layerwise


def test_what_auto_means() -> None:
    auto, dtype = Extraction(), "bfloat16" if network_reader._gains_by_bfloat16() else "float32"
    repays = REPAYS / (2 if dtype == "bfloat16" else 1)
    short, long = settle(auto, 0.9 * repays, "cpu"), settle(auto, repays, "cpu")
    assert (short.compile, short.dtype) == ("off", "float32")
    assert (long.compile, long.dtype) == ("on", dtype)
    assert settle(Extraction(compile="on"), 0, "cpu").dtype == dtype
    assert settle(auto, 1e20, "cuda").compile == "off"
    assert settle(Extraction(compile="off"), 1e20, "cpu").dtype == "float32"
    for asked in ("float32", "float16", "bfloat16"):
        assert settle(Extraction(dtype=asked), 1e20, "cpu").dtype == asked


@pytest.mark.parametrize(
    ("found", "gains"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "AMD Zen 4", "avx512_bf16": True}, True),
        ({"cpu_name": "AMD Zen 3", "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_where_bfloat16_is_taken(found: dict[str, object], gains: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert network_reader._gains_by_bfloat16() == gains
    assert settle(Extraction(compile="on"), 0, "cpu").dtype == ("bfloat16" if gains else "float32")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiling for a CPU needs a C++ compiler, and there is no g++")
def test_compiled_gives_what_eager_gives_and_pads_the_last_batch() -> None:
    net, data = tiny_net("test_resnet"), tiny_data(n=11)
    settings = Extraction(compile="on", dtype="float32", batch_size=8)
    images = torch.stack([torch.from_numpy(np.array(data.images.load(i))) for i in range(11)]).permute(0, 3, 1, 2)
    images = torch.nn.functional.interpolate(images, 32)
    compiled, plain = Reader(net, settings, "cpu"), Reader(net, Extraction(compile="off", dtype="float32"), "cpu")
    for part in (images[:8], images[8:]):
        found, expected = compiled(part), plain(part)
        for tap in net.taps:
            assert found[tap].shape == expected[tap].shape
            torch.testing.assert_close(
                found[tap], expected[tap], rtol=1e-4, atol=1e-4 * float(expected[tap].abs().max())
            )


def test_a_network_that_cannot_be_compiled_is_read_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotCompiledError("no compiler")

    monkeypatch.setattr(network_reader, "_compiled", refuse)
    net, data = tiny_net(), tiny_data()
    found = probe.extract(net, data, Extraction(compile="on"))
    assert "resnet10t is read uncompiled: no compiler" in caplog.text
    assert (found.details["compiled"], found.details["dtype"]) == (False, "float32")
    plain = probe.extract(net, data, Extraction(compile="off"))
    assert plain.folder == found.folder


def test_networks_of_one_comparison_are_not_read_unlike(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotCompiledError("no compiler")

    monkeypatch.setattr(network_reader, "_compiled", refuse)
    nets, compiled = [tiny_net(), tiny_net("resnet14t")], Extraction(compile="on")
    for compare in (probe.similarity, probe.embed):
        with pytest.raises(probe.ProbeError, match="cannot be compiled, .* give --compile off"):
            compare(nets, data=tiny_data(), extraction=compiled)


def test_probes_of_networks_that_were_read_unlike_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nets, tried = [tiny_net(), tiny_net("resnet14t")], list[object]()

    def refuse_the_second(walk: object, _: object) -> object:
        tried.append(walk)
        if len(tried) > 1:
            raise NotCompiledError("no compiler")
        return walk

    monkeypatch.setattr(network_reader, "_compiled", refuse_the_second)
    for name in ("REPAYS", "REPAYS_BFLOAT16"):  # from the first image on
        monkeypatch.setattr(network_reader, name, 0)
    grid = ProbeGrid(c_grid=(1.0,), draws=100)
    for _ in range(2):
        study = run_layerwise(nets, data=shapes_data(60), probes=["linear"], grid=grid, out=tmp_path)
        found = [arm.entry.facts["networks"][0]["request"]["compiled"] for arm in study.arms]
        assert (found, len(tried)) == ([False, False], 2)
        (run,) = study.record.runs
        assert run.facts["read"]["compile"] == "off"
        assert set(study.record.rows("layerwise")["setting"].fillna("")) == {"c_grid=1"}
    assert caplog.text.count("all are read again") == 1


def test_the_compilers_complaint_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    with pytest.raises(NotCompiledError, match="^first line$"):
        Reader(tiny_net(), Extraction(compile="on", dtype="float32", batch_size=2), "cpu")


def test_compiled_features_are_other_features() -> None:
    net = tiny_net()
    requests = [network_request(net, settle(Extraction(compile=how), 0, "cpu"), "cpu") for how in ("on", "off", "auto")]
    assert [request["compiled"] for request in requests] == [True, False, False]

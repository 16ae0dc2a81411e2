"""The benchmark of the wire, in its small form: that it works, not how fast."""

from benchmarks import wire


def test_every_record_comes_once_and_the_wire_is_counted() -> None:
    free, limited = wire.main(small=True)
    assert (free["refused"], limited["refused"]) == (0, 0)
    assert free["requests"] >= 20
    assert limited["requests"] >= free["requests"]
    assert limited["least_s"] == 0
    assert min(free["cpu_s_per_million"], free["emulator_cpu_s_per_million"], free["blobs_s"]) > 0

from laminar.repartition.memory import peak_rss_bytes, rss_bytes


def test_the_peak_grows_with_what_is_touched():
    before = peak_rss_bytes()
    assert 1 << 20 < rss_bytes() <= before
    size = max(0, before - rss_bytes()) + (64 << 20)
    block = bytearray(b"x") * size
    assert peak_rss_bytes() >= before + (32 << 20)
    assert rss_bytes() >= len(block)

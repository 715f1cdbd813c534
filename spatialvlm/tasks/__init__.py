"""The benchmarks: a folder each with data, scoring, reward and published figures; `registry` names them."""

import json

import pytest
import yaml

from avssl.config import read_yaml

NAMES = [
    f"{name} {layout}" for name in ("fp32", "bf16") for layout in ("contiguous", "channels_last", "channels_last_2d")
]


@pytest.fixture(scope="module")
def precision(benchmark_script):
    return benchmark_script("precision")


def made_up(taken, *seconds):
    times = dict(zip(NAMES, seconds, strict=True))
    return {
        "machine": "a machine",
        "bf16_units": ["AMX"],
        "clips": 32,
        "seconds": times,
        "cpu_seconds": {name: 2 * value for name, value in times.items()},
        "taken": taken,
    }


def test_ratios_are_medians_of_the_rounds_own(precision):
    # The machine was ten times slower in the last round, for all alike.
    rounds = [
        made_up(NAMES[4], 0.8, 0.4, 0.4, 0.4, 0.2, 0.3),
        made_up(NAMES[3], 0.9, 0.4, 0.4, 0.4, 0.3, 0.3),
        made_up(NAMES[4], 9, 4, 4, 4, 3, 4),
    ]
    table = precision.table(rounds)
    assert "| bf16 channels_last | 300 | 200 | 3000 | 3.00 | 3.00 | 2 of 3 |" in table
    assert "| fp32 contiguous | 900 | 800 | 9000 | 1.00 | 1.00 | 0 of 3 |" in table
    assert "`auto` chooses bf16 channels_last; the fastest is bf16 channels_last, 3.00 times" in table
    assert "at least 2 times, as there are bf16 units: AMX" in table


def test_all_six_are_timed_and_a_run_goes_on(precision, tmp_path, monkeypatch, capsys):
    tree = read_yaml(precision.CONFIG)
    # bf16 convolutions take minutes at the demo's size on a processor without AMX.
    tree["sampling"] |= {"num_frames": 2, "audio_seconds": 0.5}
    tree["transform"]["video"]["size"] = 32
    tree["model"]["video"]["width"] = tree["model"]["audio"]["width"] = 4
    (tmp_path / "tiny.yaml").write_text(yaml.dump(tree))
    monkeypatch.setattr(precision, "CONFIG", tmp_path / "tiny.yaml")
    file = tmp_path / "rounds.jsonl"
    words = ["precision.py", "--file", str(file), "--device", "cpu", "--batch-size", "2"]
    for rounds in ("1", "2"):
        monkeypatch.setattr("sys.argv", [*words, "--rounds", rounds])
        precision.main()
        assert capsys.readouterr().out.count("round ") == 1, "one round is new"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [set(row["seconds"]) for row in rows] == [set(NAMES)] * 2
    assert all(row["taken"] in NAMES and row["clips"] == 2 for row in rows)

    file.write_text(file.read_text().replace(rows[0]["machine"], "another machine"))
    with pytest.raises(SystemExit, match="rows of another machine"):
        precision.main()

"""`compress gate` on the bundle of a real run, typed as a user types it."""

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree


def test_a_gate_of_5_seconds_has_too_few_processes_and_fails_as_asked_with_its_reports(
    finished: Any, quick: Any, tmp_path: Path
) -> None:
    # No machine starts nine processes in five seconds, of which two are spent on opening and timing in each.
    bundle = str(finished.out / "bundle")
    found = quick(
        "gate", "--baseline", bundle, "--candidate", bundle, "--max-seconds", "5", "--undecided", "fail",
        "--json", "--junit", "gate.xml", "--markdown", "gate.md", cwd=tmp_path,
    )  # fmt: skip
    assert found.exit_code == 1, found.stderr
    told = found.told
    assert (told["finding"], told["looks"], told["target"]) == ("undecided", 4, "x86-cpu")
    assert told["processes"] == len(told["process_ratios"]) > 0 and told["turns"] > 0
    assert [line["name"] for line in told["lines"]][:4] == ["latency", "p50", "p99", "load time"]
    assert told["lines"][0]["finding"] == "undecided" and "too few processes" in told["lines"][0]["why"]
    suites = ElementTree.parse(tmp_path / "gate.xml").getroot()
    assert suites.get("failures") == "1" and suites.get("tests") == "1"
    text = (tmp_path / "gate.md").read_text(encoding="utf-8")
    assert "undecided" in text and "gate.svg" in text and (tmp_path / "gate.svg").read_text().startswith("<svg")


def test_a_stored_measurement_is_undecided_with_exit_code_3_and_names_what_to_keep(
    finished: Any, quick: Any, tmp_path: Path
) -> None:
    shutil.copy(finished.out / "bundle" / "result.json", tmp_path / "result.json")
    found = quick("gate", "--baseline", "result.json", "--candidate", str(finished.out), "--json", cwd=tmp_path)
    assert found.exit_code == 3, found.stderr
    assert found.told["lines"][0]["finding"] == "undecided" and found.told["lines"][0]["change"] is None
    assert "compress baseline update" in found.told["lines"][0]["why"]


def test_bundles_for_2_targets_are_refused_before_anything_is_timed(finished: Any, quick: Any, tmp_path: Path) -> None:
    from pipeline.integrity import MANIFEST, SUMS, digests_of, sums_text
    from pipeline.store import file_digest

    shutil.copytree(finished.out / "bundle", tmp_path / "v2")
    manifest = json.loads((tmp_path / "v2" / MANIFEST).read_text())
    manifest["target"]["name"] = "x86-avx2"
    (tmp_path / "v2" / MANIFEST).write_text(json.dumps(manifest))
    listed = digests_of(tmp_path / "v2")
    (tmp_path / "v2" / SUMS).write_text(sums_text(listed, manifest=file_digest(tmp_path / "v2" / MANIFEST)))
    found = quick("gate", "--baseline", str(finished.out), "--candidate", "v2", cwd=tmp_path)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "the target of" in found.stderr and "x86-avx2" in found.stderr

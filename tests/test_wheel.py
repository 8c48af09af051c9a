"""An installed wheel, outside the checkout, has its corpora and runs."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def site(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the wheel alone has been unpacked."""
    work = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "--outdir",
            str(work),
            str(checkout),
        ],
        check=True,
        capture_output=True,
    )
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "site")
    return work / "site"


def test_the_wheel_holds_the_package_and_corpora_and_no_stray_module(site: Path) -> None:
    assert sorted(p.name for p in site.iterdir() if not p.name.endswith(".dist-info")) == [
        "ngscale"
    ]
    assert (site / "ngscale/corpora/default/emma.txt").is_file()
    assert (site / "ngscale/corpora/tokenizers/bpe-32768/tokenizer.json").is_file()
    assert (site / "ngscale/presets/longcat-flash-lite.json").is_file()
    assert (site / "ngscale/presets/policies.toml").is_file()
    assert (site / "ngscale/presets/ngram/longcat-2.0.json").is_file()
    assert (site / "ngscale/presets/backbones/mixtral-8x7b.json").is_file()


def test_collisions_runs_from_the_wheel_outside_the_checkout(site: Path, tmp_path: Path) -> None:
    code = (
        "import sys, ngscale; from ngscale.cli import main; "
        "print(ngscale.__file__, file=sys.stderr); main()"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            code,
            "collisions",
            "--sizes",
            "1015808",
            "--orders",
            "2",
            "--json",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.startswith(str(site))
    document = json.loads(done.stdout)
    assert document["inputs"]["corpus"]["num_docs"] == 2
    assert document["results"][0]["excess"]["collisions"] > 3


def test_recipes_run_from_the_wheel(site: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mistral_common-1.13.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("mistral_common/data/tekken_240911.json", "{}")
        about = "mistral_common-1.13.1.dist-info"
        wheel.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: mistral-common\nVersion: 1.13.1\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    environment = {**os.environ, "PYTHONPATH": str(site), "NGSCALE_CACHE": str(tmp_path / "cache")}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ngscale", "corpora", "build", "tekken"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cache/tokenizers/tekken/tekken.json").read_text() == "{}"

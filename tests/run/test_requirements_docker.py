import hashlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from runner.host import this_host
from runner.image.added import ADDED, Added, image_with
from runner.image.image import find_image
from runner.image.requirements import Lock, read_requirements
from tests.branch.desk import make_bare
from tests.conftest import TEST_IMAGE, Place, engine_api
from tests.forked import run_forked
from tests.run.pinned import build, pinned, refused
from tests.run.test_verify_docker import change
from tests.wheel import write_wheel

pytestmark = pytest.mark.docker


def images() -> set[str]:
    """Ids of the images with packages that tests have made."""
    listed = engine_api().images(filters={"label": ADDED})
    labels = ((about["Id"], about["Labels"]) for about in listed)
    return {
        image for image, known in labels if known["evalset.base.name"].startswith("evalset/test:")
    }


def remove_images() -> None:
    for image in images():
        engine_api().remove_image(image, force=True)


@pytest.fixture(scope="module", autouse=True)
def built(test_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Images that several tests need are built before them, and none is left behind them."""
    folder = tmp_path_factory.mktemp("built")
    file = folder / "requirements.txt"
    api = engine_api()
    for version in ("1.0", "2.0"):
        wheel = write_wheel(folder / "index", "extra", version)
        file.write_text(f"--no-index\n--find-links index\nextra=={version}\n")
        added = Added.to(api, find_image(api, test_image), read_requirements(str(file)))
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lock = Lock(key="", text=f"extra=={version} --hash=sha256:{digest}\n")
        image_with(api, added, lock, this_host({"HOME": str(folder)}), tell=print)
    yield
    remove_images()


@pytest.fixture
def place(place: Place, tmp_path: Path) -> Place:
    """A place where no packages were chosen yet; wheels were fetched."""
    own = tmp_path / "cache/evalset"
    own.mkdir(parents=True)
    (place.cache / "evalset/wheels").mkdir(parents=True, exist_ok=True)
    (own / "wheels").symlink_to(place.cache / "evalset/wheels")
    return msgspec.structs.replace(place, cache=tmp_path / "cache")


def ask_for(place: Place, *lines: str, version: str = "1.0") -> str:
    """Write a requirements file, and an index with one package, which is all that pip reaches."""
    write_wheel(place.folder / "index", "extra", version)
    path = place.folder / "requirements.txt"
    path.write_text("\n".join(["--no-index", "--find-links index", *lines, ""]))
    return str(path)


def found(place: Place, name: str = "imports.extra") -> object:
    """What an eval found that imports a module."""
    return place.reports()[name]["found"]


def clean(place: Place) -> str:
    """Remove what nobody uses; gives what is said."""
    words = ["image", "clean"]
    ended = run_forked("evalset", words, cwd=place.folder, env=place.environ())
    assert ended.returncode == 0, ended
    return ended.stdout


def where(version: str) -> list[str]:
    return ["/usr/local/lib/python3.11/dist-packages/extra.py", version]


def test_an_eval_has_the_packages_and_the_second_run_makes_nothing(place: Place) -> None:
    """The image is built from the run's own, once; pip is not asked again, nor the index needed."""
    file = ask_for(place, "extra", version="3.0")
    place.registry("imports.extra", "fail.1")
    with place.running("--requirements", file) as process:
        output, _ = process.communicate(timeout=280)
    assert process.returncode == 1, output
    assert found(place) == where("3.0")
    said = output.splitlines()
    assert f"requirements: choosing packages for {file} with pip" in said
    assert f"image: adding a package of {file} to {TEST_IMAGE}" in said
    (image,) = {record.image for record in place.records()}
    known = images()
    assert image in known
    shutil.rmtree(place.folder / "index")
    (place.cache / "evalset/wheels").unlink()
    again = place.run("--requirements", file)
    assert again.returncode == 1
    assert "requirements: " not in again.stdout
    assert "image: " not in again.stdout
    assert images() == known


def test_a_project_adds_what_it_depends_on(place: Place) -> None:
    """From where pip's own settings say; the project itself is neither built nor added."""
    write_wheel(place.folder / "index", "extra", "1.0")
    project = place.folder / "pyproject.toml"
    own = '[build-system]\nrequires = ["none"]\nbuild-backend = "none"\n'
    project.write_text(f'{own}[project]\nname = "mine"\ndependencies = ["extra<2"]\n')
    place.registry("imports.extra")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(place.folder / "index")}
    ended = place.run("--requirements", str(project), **settings)
    assert ended.returncode == 0, ended
    assert found(place) == where("1.0")
    (lock,) = pinned(place).locks.values()
    assert lock.startswith("extra==1.0 --hash=sha256:")
    assert lock.count("==") == 1
    project.write_text(project.read_text().replace("extra<2", "extra<1"))
    refused = place.run("--requirements", str(project), **settings)
    assert refused.returncode == 2
    assert f"{project}: pip cannot fulfil it: " in refused.stderr


def test_what_was_chosen_stays_for_this_run_and_for_another_host(
    place: Place, tmp_path: Path
) -> None:
    """The choice is in run.json, and so on the branch; a newer version does not get in between."""
    hub = make_bare(tmp_path / "hub.git")
    snapshot = ("--snapshot", "--remote", str(hub))
    place.registry("imports.extra", "fail.1")
    place.run(*snapshot, "--requirements", ask_for(place, "extra"))
    (lock,) = pinned(place).locks.values()
    assert lock.startswith("extra==1.0 --hash=sha256:")
    other = msgspec.structs.replace(
        place, folder=tmp_path / "other", cache=tmp_path / "other-cache"
    )
    other.registry("imports.extra", "fail.1", "imports.extra.again")
    shutil.copytree(place.folder / "index", other.folder / "index")
    file = ask_for(other, "extra", version="2.0")
    ended = other.run(*snapshot, "--requirements", file, "--no-exit-on-error")
    assert ended.returncode == 1, ended
    assert "choosing packages" not in ended.stdout
    assert found(other, "imports.extra.again") == where("1.0")
    assert other.leftovers() == []
    assert other.run("--no-resume", "--requirements", file).returncode == 1
    assert found(other) == where("2.0")


def test_other_packages_are_refused_until_they_are_allowed(place: Place) -> None:
    """As another image; so is a run without any."""
    place.registry("imports.extra", "fail.1")
    place.run("--requirements", ask_for(place, "extra"))
    (before,) = set(pinned(place).packages.values())
    line = refused(place)
    again = "none now (give --requirements again); `--repin` continues"
    assert f": packages of --requirements: {before} before, {again}" in line
    file = ask_for(place, "extra>1", version="2.0")
    ended = place.run("--requirements", file)
    assert ended.returncode == 2
    assert f": packages of --requirements: {before} before, " in ended.stderr
    ended = place.run("--requirements", file, "--repin")
    assert "under the new conditions" in ended.stdout
    assert [lock.split()[0] for lock in pinned(place).locks.values()] == ["extra==2.0"]
    assert place.finished() == ["imports.extra"]


def test_a_rule_adds_packages_for_single_evals(place: Place) -> None:
    """To their own image, if they have one; its path starts at the registry folder."""
    ask_for(place, "extra")
    rule = {"*.extra": {"requirements": "../requirements.txt"}}
    place.registry("imports.extra", "look", containers=rule)
    assert place.run().returncode == 0
    assert found(place) == where("1.0")
    assert len(pinned(place).packages) == 1
    images_of = {record.eval: record.image for record in place.records()}
    assert images_of["look"] != images_of["imports.extra"]


def test_packages_that_the_image_has_need_no_other(place: Place, other_image: str) -> None:
    """It is used as it is."""
    about = "/usr/lib/python3/dist-packages/extra-1.0.dist-info"
    build(
        other_image,
        f"FROM {place.image}\n"
        f"RUN mkdir -p {about} && printf 'Metadata-Version: 2.1\\nName: extra\\nVersion: 1.0\\n' "
        f"> {about}/METADATA && echo 'SAYS = 1' > /usr/lib/python3/dist-packages/extra.py\n",
    )
    place.registry("imports.extra")
    ended = place.run("--requirements", ask_for(place, "extra"), EVALSET_IMAGE=other_image)
    assert ended.returncode == 0, ended
    assert {record.image for record in place.records()} == {
        find_image(engine_api(), other_image).id
    }
    assert list(pinned(place).locks.values()) == [""]
    again = place.run("--requirements", ask_for(place, "extra"), EVALSET_IMAGE=other_image)
    assert again.stdout.startswith("nothing to run")
    file = ask_for(place, "extra>1", version="2.0")
    ended = place.run("--requirements", file, EVALSET_IMAGE=other_image)
    assert ended.returncode == 2
    assert "it asks for extra>1, the image has extra==1.0; change the file" in ended.stderr


def test_requirements_that_cannot_be_fulfilled_stop_a_run_before_it_starts(place: Place) -> None:
    """One line, and nothing is recorded; a dry run says the same."""
    place.registry("succeed.a")
    file = ask_for(place, "gone")
    for options in ((), ("--dry-run",)):
        ended = place.run("--requirements", file, *options)
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert line == (
            f"Error: {file}: pip cannot fulfil it: No matching distribution found for gone; "
            "change the file"
        )
    assert place.records() == []


def test_verify_takes_the_packages_of_the_record(place: Place) -> None:
    """They are those that were chosen then; without the file nobody can tell."""
    place.registry("imports.extra")
    place.run("--requirements", ask_for(place, "extra"))
    change(place, lambda line: line.update(spending={"requests": 0}))
    shutil.rmtree(place.cache / "evalset/requirements")
    file = ask_for(place, "extra", version="2.0")
    line = ("verify", "m", "s", "--registry-path", str(place.folder / "registry"))
    assert "cannot tell  imports.extra: packages of" in place.ask(*line).stdout
    ended = place.ask(*line, "--requirements", file)
    assert "final report, found" not in ended.stdout
    assert ended.stdout.startswith("differs      imports.extra  (1 sample, 0 answers)"), ended


def test_clean_leaves_what_a_run_uses(place: Place) -> None:
    """Although no container of it has the image at the moment."""
    place.registry("wait")
    file = ask_for(place, "extra")
    with place.running("--requirements", file) as process:
        place.until_running(1)
        process.send_signal(signal.SIGSTOP)
        for container in place.containers():
            engine_api().remove_container(container, force=True)
        assert "left alone: evalset/added:" in clean(place)
        process.kill()
    assert "removed evalset/added:" in clean(place)
    shutil.rmtree(place.progress)


def test_clean_removes_what_nobody_uses(place: Place) -> None:
    """A container keeps its image; the choice goes, and the next run chooses anew."""
    place.registry("wait")
    file = ask_for(place, "extra")
    with place.running("--requirements", file) as process:
        place.until_running(1)
        (container,) = place.containers()
        image = engine_api().inspect_container(container)["Image"]
        assert "which a run or a container uses" in clean(place)
        assert image in images()
        place.let_go()
        process.wait()
    assert "removed evalset/added:" in clean(place)
    assert image not in images()
    write_wheel(place.folder / "index", "extra", "2.0")
    place.registry("imports.extra")
    with place.running("--no-resume", "--requirements", file) as process:
        output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    assert found(place) == where("2.0")

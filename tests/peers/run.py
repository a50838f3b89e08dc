"""Runs the OpenAI SDK's own async tests with every client wrapped, and reports what differs.

The suite is taken from the source distribution of the installed version. What fails with a wrapped
client is run again, bare and wrapped. What then passes bare and fails wrapped must be listed in
exceptions.txt, with the reason.

    python tests/peers/run.py DIRECTORY [tests of the suite]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import certifi

HERE = Path(__file__).parent

SUITE = ("tests/test_client.py", "tests/lib")
"""What is run with limits alone, under which the SDK's own retries are on."""

OF_ATTEMPTS = ("tests/test_client.py",)
"""What is run with a `Retry` too, which decides on the attempts in the SDK's place."""

END = "-----END CERTIFICATE-----\n"


def suite_in(directory: Path) -> Path:
    """Return the root of the suite, which is downloaded if it is not there."""
    release = version("openai")
    root = directory / f"openai-{release}"
    if not root.exists():
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", "openai"]
        command = [sys.executable, "-m", "pip", "download", *options, f"openai=={release}"]
        subprocess.run([*command, "--dest", directory], check=True)
        with tarfile.open(directory / f"openai-{release}.tar.gz") as archive:
            archive.extractall(directory, filter="data")
    return root


def failures(root: Path, stack: str, tests: list[str]) -> set[str]:
    """Run tests of the suite with a stack; return the ids of those that fail."""
    failed, chosen = root.parent / f"{stack}.failed", root.parent / f"{stack}.tests"
    certificate = root.parent / "one.pem"  # to load all of them takes 30 ms for each client
    first = Path(certifi.where()).read_text("ascii", "ignore").partition(END)[0] + END
    certificate.write_text(first)
    failed.write_text("")
    chosen.write_text("\n".join(tests))
    options = ["-q", "-o", "addopts=", "-p", "wrapping", "-p", "no:cacheprovider", "--tb=no"]
    ignored = ["-W", "ignore::resilient_infe.errors.NestedRetriesWarning"]
    environment = os.environ | {
        "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}",
        "PEERS_STACK": stack,
        "PEERS_FAILED": str(failed),
        "SSL_CERT_FILE": str(certificate),
    }
    command = [sys.executable, "-m", "pytest", *options, *ignored, f"@{chosen}"]
    subprocess.run(command, cwd=root, env=environment, check=False)
    return set(failed.read_text().splitlines())


def listed() -> set[str]:
    """Return the ids in exceptions.txt."""
    lines = (HERE / "exceptions.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def main(directory: str, *tests: str) -> int:
    """Run the suite; return 1 if a test differs that is not listed."""
    at = Path(directory).absolute()
    at.mkdir(parents=True, exist_ok=True)
    root, known, odd = suite_in(at), listed(), 0
    for stack, usual in (("limits", SUITE), ("retry", OF_ATTEMPTS)):
        differ = failures(root, stack, list(tests or usual))
        for again in ("bare", stack):  # a second time, since some tests depend on the time
            failed = failures(root, again, sorted(differ)) if differ else set()
            differ = differ - failed if again == "bare" else failed
        for test in sorted(differ):
            excepted = f"{stack} {test}" in known
            odd += not excepted
            print(f"{'listed' if excepted else 'DIFFERS'}: {stack} {test}")
        print(f"{stack}: {len(differ)} differ of those that pass bare")
    return int(odd > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The SLURM script: what it starts on two nodes of four GPUs, with stand-ins for the commands it takes from SLURM."""

import json
import os
import shutil
import subprocess

import pytest

import fusionlib
from fusionlib import __main__ as commands

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
SCRIPT = fusionlib.ROOT / "docs" / "cluster" / "paper.sbatch"
SLURM = {"SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "41", "SLURM_JOB_NODELIST": "n[1-2]",
         "SLURM_NODEID": "1"}  # fmt: skip
RECORD = '#!/bin/sh\nexec {python} -c \'import json, sys; print(json.dumps(sys.argv[1:]))\' {name} "$@" >> {log}\n'


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The commands that the script starts, as lists."""
    folder = tmp_path_factory.mktemp("cluster")
    log, bin_folder = folder / "log", folder / "bin"
    bin_folder.mkdir()
    python = shutil.which("python3") or shutil.which("python")
    for name, text in {"python": RECORD, "accelerate": RECORD, "srun": '#!/bin/sh\nexec "$@"\n',
                       "scontrol": "#!/bin/sh\nprintf 'n1\\nn2\\n'\n"}.items():  # fmt: skip
        text = text.format(python=python, name=name, log=log) if text is RECORD else text
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", SCRIPT], env={**os.environ, **SLURM, "PATH": path, "DATA": "/data sets"}, check=True)
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_commands_in_their_order(started, monkeypatch):
    given = []
    monkeypatch.setattr(commands, "execute", lambda arguments: given.append(arguments) or 0)
    for command in started:
        assert command[0] in ("python", "accelerate")
        assert commands.main(command[command.index("fusionlib") + 1 :]) == 0
    told = [(a.command, getattr(a, "only", "") or getattr(a, "number", "")) for a in given]
    assert told == [("run", "01"), ("train", "02"), ("run", "02"), ("ask", ""), ("run", "03"), ("train", "04"),
                    ("run", "04,05,06,07,08,09"), ("report", "")]  # fmt: skip
    assert all(a.data_root == "/data sets" and a.profile == "paper" for a in given if a.command in ("run", "train"))
    assert [c[0] for c in started] == ["python", "accelerate", "python", "accelerate", "python", "accelerate", "python",
                                       "python"]  # fmt: skip


def test_accelerate_gets_all_gpus_of_all_nodes(started):
    launch = next(command for command in started if command[0] == "accelerate")
    options = dict(zip(launch[3::2], launch[4::2]))
    assert launch[1:3] == ["launch", "--multi_gpu"]
    assert options["--num_processes"] == "8" and options["--num_machines"] == "2" and options["--machine_rank"] == "1"
    assert options["--main_process_ip"] == "n1" and 1024 < int(options["--main_process_port"]) < 65536


def test_without_data_it_says_what_to_set():
    environment = {key: value for key, value in os.environ.items() if key != "DATA"}
    run = subprocess.run(["bash", SCRIPT], env=environment, capture_output=True, text=True)
    assert run.returncode and "set DATA to the folder that holds LLVIP/" in run.stderr

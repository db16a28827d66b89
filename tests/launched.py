"""Processes of `accelerate launch`."""

import os
import socket
import subprocess
import sys


def launched(processes, *command, timeout=500):
    """Run a script with its arguments in so many processes, without a GPU, to its good end; one runs it by itself."""
    start = [sys.executable]
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # accelerate's --cpu needs MPI; --multi_gpu starts the processes, and without a GPU they compute on the CPU.
        options = {"num_processes": processes, "num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no",
                   "main_process_port": port}  # fmt: skip
        start += ["-m", "accelerate.commands.launch", "--multi_gpu"]
        start += [f"--{name}={value}" for name, value in options.items()]
    run = subprocess.run([*start, *map(str, command)], env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
                         capture_output=True, text=True, timeout=timeout)  # fmt: skip
    assert run.returncode == 0, run.stderr

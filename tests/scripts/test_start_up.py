"""Commands on machines whose GPU this build of torch cannot use: one line, or the small model on request."""

import socket
from multiprocessing.connection import wait

import processes
import pytest
from machines import CPU_BUILD, CUDA_13_0, T4, V100, Machine

BROKEN = {
    "V100": Machine(CUDA_13_0, V100, "580.95.05"),
    "old driver": Machine(CUDA_13_0, T4, "535.129.03", starts=False),
    "CPU build": Machine(CPU_BUILD, T4, "535.129.03", starts=False),
}
GRPO, CVBENCH, COT = "model/pali_sat_grpo.py", "eval_paligemma_cvbench.py", "eval_cot.py"


def run_on(machine, script, *flags, folder, launch=({},)):
    """(exit codes, stdout, stderr) of a command's processes; where one ends, as by a launcher, all do.

    Args:
        launch: what a launcher tells each process.
    """
    (folder / "bin").mkdir()
    logs = [folder / "stdout", folder / "stderr"]
    path = {"PATH": machine.path(folder / "bin")}
    started = [
        processes.start(script, *flags, folder=folder, logs=logs, environment=path | each, prepare=machine)
        for each in launch
    ]
    wait([process.sentinel for process in started], processes.LIMIT)
    codes = {process.exitcode for process in started} - {None}
    for process in started:
        process.terminate()
        process.join()
    return codes, *(log.read_text() for log in logs)


@pytest.mark.parametrize(
    ("name", "command", "reason"),
    [
        ("V100", (GRPO,), "torch 2.13.0 built for CUDA 13.0 has no kernels for Tesla V100-SXM2-16GB (sm_70)"),
        ("V100", (COT, "--profile", "paper"), "torch 2.13.0 built for CUDA 13.0 has no kernels for"),
        ("old driver", (CVBENCH,), "Tesla T4 has driver 535, and torch 2.13.0 built for CUDA 13.0 needs 580"),
        (
            "CPU build",
            (GRPO, "--profile", "paper"),
            "Tesla T4 is here, and torch 2.13.0 is built without CUDA",
        ),
    ],
    ids=["v100", "v100-cot", "driver", "cpu-build"],
)
def test_a_gpu_that_cannot_be_used_ends_the_command_in_one_line(name, command, reason, tmp_path):
    codes, out, err = run_on(BROKEN[name], *command, folder=tmp_path)
    assert codes == {2} and err.startswith(f"error: {reason}")
    assert "install torch 2.13.0 built for CUDA 12.6 (cu126" in err and err.count("\n") == 1 and out == ""


def test_several_processes_say_it_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        all_of_them = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    all_of_them |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    launch = [all_of_them | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    codes, out, err = run_on(BROKEN["V100"], GRPO, folder=tmp_path, launch=launch)
    assert codes == {2} and err.count("error: ") == err.count("\n") == 1 and out == "", err


def test_the_small_model_runs_on_the_cpu_and_says_so(tmp_path):
    flags = ("--profile", "embedded", "--limit", "4", "--output_dir", "out")
    codes, out, err = run_on(BROKEN["V100"], CVBENCH, *flags, folder=tmp_path)
    assert codes == {0}, err
    first = (
        "profile: embedded (as requested); CPU, float32 (torch 2.13.0 built for CUDA 13.0 has no kernels for"
    )
    assert out.startswith(first) and (tmp_path / "out" / "summary.json").is_file()
    assert '"device": "cpu' in (tmp_path / "out" / "config.json").read_text()

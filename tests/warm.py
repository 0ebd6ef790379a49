"""A Python that has torch loaded already, for tests of programs: they start in a tenth of a second, not in five.

`python tests/warm.py SOCKET` serves. For each script that it is asked to run it forks a child, which has loaded the
packages and nothing of ours, and gives it the caller's arguments, folder, environment and streams. `client` makes the
program that asks, to be given to run_all.sh as PYTHON, to torchrun as PYTHON_EXEC and to scripts as sys.executable; it
ends as the child ends, and the child with it. What is no script (`-c`, `-m`) runs in a Python of its own. Only the
start is another than a user's: the environment is read after torch is loaded, and hashes of texts are the same in every
child.
"""

import atexit
import contextlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
words = sys.argv[1:]
if words[:1] == ["-u"]:  # torchrun's
    words, os.environ["PYTHONUNBUFFERED"] = words[1:], "1"
if not words or not words[0].endswith(".py"):
    os.execv({python!r}, [{python!r}, *words])
link = socket.socket(socket.AF_UNIX)
link.connect({path!r})
asked = json.dumps([words, os.getcwd(), dict(os.environ)]).encode() + b"\\n"
link.sendall(asked[socket.send_fds(link, [asked], [0, 1, 2]):])
answers = link.makefile("r")
child = int(answers.readline())
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(child, number))
status = int(answers.readline() or -9)
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


def client(path, at):
    """Writes the program `path`, which asks the server at the socket `at`."""
    path.write_text(CLIENT.format(python=sys.executable, path=str(at)))
    path.chmod(0o755)


def asked(link):
    """(arguments, folder, environment) of a caller, and its three streams."""
    text, streams, *_ = socket.recv_fds(link, 1 << 16, 3)
    while not text.endswith(b"\n"):
        text += link.recv(1 << 16)
    return json.loads(text), streams


def play(arguments, folder, environment, streams):
    """Is, in a child, the program that the caller wanted; never returns."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout.reconfigure(write_through="PYTHONUNBUFFERED" in environment)
    more = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:1], sys.argv = [os.path.dirname(os.path.abspath(arguments[0])), *more], arguments
    status = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        status = 1
        sys.excepthook(type(error), error, error.__traceback__)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def attend(link):
    """Starts what one caller wants and tells it the child's number and, in the end, its status."""
    wanted, streams = asked(link)
    if not (child := os.fork()):
        link.close()
        play(*wanted, streams)
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(OSError):  # the caller may be gone already: it is noticed below
        link.sendall(f"{child}\n".encode())
    ended = os.pidfd_open(child)
    if link in select.select([link, ended], [], [])[0]:  # the caller is gone
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        link.sendall(f"{status}\n".encode())
    os._exit(0)


def serve(path):
    import matplotlib.pyplot  # noqa: F401
    import nltk  # noqa: F401
    import peft  # noqa: F401
    import rouge_score.rouge_scorer  # noqa: F401
    import sentence_transformers  # noqa: F401
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")  # the table of all models; each child would make it
    door = socket.socket(socket.AF_UNIX)
    door.bind(path)
    door.listen()
    print("ready", flush=True)
    attendants = set()
    while select.select([door, sys.stdin], [], [])[0] != [sys.stdin]:  # it ends with who started it
        link, _ = door.accept()
        if not (one := os.fork()):
            door.close()
            attend(link)
        link.close()
        attendants = {other for other in {*attendants, one} if not os.waitpid(other, os.WNOHANG)[0]}
    for one in attendants:
        os.waitpid(one, 0)
    os._exit(0)  # Python's own end, with all that torch has loaded, takes seconds


if __name__ == "__main__":
    serve(sys.argv[1])

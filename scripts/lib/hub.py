"""The hub: data sets and models by their id, owner/name, with the commit that came; every fault is one clear line.

Set by the environment as the hub's own client knows it: HF_ENDPOINT (another hub), HF_HOME (the cache), HF_TOKEN,
HF_HUB_OFFLINE=1.
"""

import functools
import os
import re
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from lib.files import FROM_HUB, fail, without_password

# What was on the hub when others recorded it in public repositories, none of which this project could reach itself: the
# commit that is asked for where no --revision says another. A hub that has no such commit (a mirror) gives its main
# branch, and that is said.
REVISIONS = {
    "locuslab/TOFU": "324592d84ae4f482ac7249b9285c2ecdb53e3a68",
    "databricks/databricks-dolly-15k": "bdd27f4d94b9c1f951818a7da7fd7aeea5dbff1a",
    "locuslab/tofu_ft_llama2-7b": "8fa500e8f345f1dd9cfe95bb4689878c944c9cbd",
    "meta-llama/Llama-2-7b-chat-hf": "f5db02db724555f92da89c216ac04704f23d4590",
    "meta-llama/Llama-3.2-1B-Instruct": "9213176726f574b556790deb65791e0c5aa438b6",
    "google/gemma-2-2b-it": "299a8560bedf22ed1c72a8a11e7dce4a7f9f51f8",
    "open-unlearning/tofu_Llama-3.2-1B-Instruct_full": "88e31200b97e4c0c04ae0d2f0b591f427046d192",
    "open-unlearning/tofu_Llama-3.2-1B-Instruct_retain90": "7114300c0049527a71833f5683965c358ad9dcbf",
    "open-unlearning/tofu_Llama-3.2-1B-Instruct_retain95": "f05bc9fd6c8d59decf7599f5e186153081061fd2",
    "open-unlearning/tofu_Llama-3.2-1B-Instruct_retain99": "64a2028a51b386a06898464142df1d89749fdab3",
    "open-unlearning/tofu_Llama-3.2-3B-Instruct_full": "24f31ca19f6966dcb6f6b29abc511cce71222d4a",
    "open-unlearning/tofu_Llama-3.2-3B-Instruct_retain90": "2c35819e9a731d096df9abd6efbcc361870c5333",
    "open-unlearning/tofu_Llama-3.2-3B-Instruct_retain95": "6df93709a833a8d58f287148e2e290c248ed7d4e",
    "open-unlearning/tofu_Llama-3.1-8B-Instruct_full": "1a5c5b1a557f8c99bdadecd5168ebd03f640b00e",
    "open-unlearning/tofu_Llama-3.1-8B-Instruct_retain90": "f02956a9f25a18f38ad7808fbefb2f957347273e",
    "open-unlearning/tofu_Llama-3.1-8B-Instruct_retain95": "4b747af1199b653540b0ae3fb15348354a44b336",
    "open-unlearning/tofu_Llama-3.1-8B-Instruct_retain99": "47e5bf331fa6706274d45f799498991a396ca191",
    "sileod/deberta-v3-base-tasksource-nli": "3209a6ab012eab725e8f24547972f9aa133d1345",
    "sentence-transformers/all-MiniLM-L12-v2": "c004d8e3e901237d8fa7e9fff12774962e391ce5",
}
PATTERNS = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]  # of a model: no pickles, no code
SECONDS = 5  # to find out that there is no network


def is_id(name):
    """owner/name. work/none and data/x are paths that lead nowhere, and so is one whose first part is a folder here."""
    owner = str(name).split("/")[0]
    return (
        bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(name)))
        and owner not in ("work", "data")
        and not Path(owner).is_dir()
    )


# ---------------------------------------------------------------- faults


@functools.cache
def unreachable():
    """Why the hub is not asked: a text, or None. Found out once, in SECONDS at most; the client itself would try for a
    minute.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE=1 is set"
    if any(os.environ.get(name) or os.environ.get(name.upper()) for name in ("http_proxy", "https_proxy", "all_proxy")):
        return None  # the proxy finds out
    try:
        place = urlsplit(constants.ENDPOINT)
        socket.create_connection((place.hostname, place.port or {"http": 80}.get(place.scheme, 443)), SECONDS).close()
    except OSError as error:
        return f"{constants.ENDPOINT} cannot be reached ({error.strerror or error})"
    except ValueError:  # a name that no host can have
        return f"HF_ENDPOINT={constants.ENDPOINT} is no address"


def _explain(error, name, kind, instead):
    """Ends the program with what an error of the hub's client means for the user."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    known = "the account of HF_TOKEN is not let in" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set"
    accept = f"accept its licence at {page} and set HF_TOKEN to a token of the account that did"
    if isinstance(error, errors.GatedRepoError) or status == 403:
        why, do = f"it is gated ({status}: {known})", accept
    elif isinstance(error, errors.RevisionNotFoundError):
        why, do = f"it has no such revision ({status})", f"see {page}/commits/main for those it has"
    elif isinstance(error, errors.RemoteEntryNotFoundError):
        why, do = f"there is no file {response.url} ({status})", "check --revision"
    elif status in (401, 404) or isinstance(error, errors.RepositoryNotFoundError):
        why, do = (
            f"no such {'data set' if kind == 'dataset' else 'model'}, or a closed one ({status})",
            "check the name",
        )
        do += f"; if it is gated, {accept}"
    elif reason := unreachable():
        why, do = f"{reason}, and the cache {constants.HF_HUB_CACHE} does not hold it", "check the network"
    else:
        why, do = (str(error).strip() or type(error).__name__).splitlines()[0], "check the network"
    fail(without_password(f"cannot get {name} from the hub: {why}; {do}, or give {instead}"))


def _take(name, kind, revision, instead, get):
    """What get(revision, whether to look into the cache alone) gives: of `revision`, else of the pinned one, else of
    main.
    """
    from huggingface_hub import errors

    alone = unreachable() is not None
    pinned = None if revision else REVISIONS.get(name)
    try:
        return get(revision or pinned, alone)
    except Exception as error:  # the client raises many kinds, and a dead network those of other libraries
        status = getattr(getattr(error, "response", None), "status_code", None)
        other = isinstance(error, (errors.RevisionNotFoundError, errors.LocalEntryNotFoundError)) or status == 404
        if not (pinned and other):
            _explain(error, name, kind, instead)
    try:
        found = get(None, alone)
    except Exception as error:
        _explain(error, name, kind, instead)
    there = "cache" if alone else "hub"
    print(
        f"{name}: the {there} has no commit {pinned[:12]}, which is pinned here: taking its main branch",
        file=sys.stderr,
    )
    return found


# ---------------------------------------------------------------- data sets and models


def download(repository, names, revision=None, instead="", optional=()):
    """Gets files of a data set; the commit that came is part of their paths, and of every record (files.record).

    Args:
        repository: hub id, names: its files, revision: commit to take, instead: what to give where there is no hub.
        optional: those of names that need not be there.
    Returns:
        list of paths, in the order of names, None for an optional one that is not there. Ends the program in one line
        when another does not come.
    """
    from huggingface_hub import errors, hf_hub_download

    def get(revision, alone):
        paths = []
        for name in names:
            try:
                found = hf_hub_download(
                    repository,
                    name,
                    repo_type="dataset",
                    revision=revision,
                    local_files_only=alone,
                    etag_timeout=2 * SECONDS,
                )
                paths.append(Path(found))
            except errors.EntryNotFoundError as error:
                lost = isinstance(error, errors.LocalEntryNotFoundError) and not alone  # the network, not the file
                if name not in optional or lost:
                    raise
                paths.append(None)
        if not any(paths):
            raise errors.LocalEntryNotFoundError(f"it holds none of {', '.join(names)}")
        return paths

    names = list(names)
    paths = _take(repository, "dataset", revision, instead, get)
    found = re.search(r"/snapshots/([^/]+)/", str(next(filter(None, paths))))
    FROM_HUB[repository] = found[1] if found else None
    return paths


def folder(name, revision=None, instead="a local folder"):
    """The folder of a model: itself, or of a hub id the files that came, as they lie in the hub client's cache."""
    if Path(name).is_dir() or not is_id(name):
        return str(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    get = lambda revision, alone: snapshot_download(
        str(name), revision=revision, allow_patterns=PATTERNS, local_files_only=alone, etag_timeout=SECONDS * 2
    )
    found = _take(str(name), "model", revision, instead, get)
    FROM_HUB[str(name)] = Path(found).name
    return found

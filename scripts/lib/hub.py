"""Published data sets from the hub."""

from pathlib import Path

from lib.files import fail


def download(repository, names, revision=None, instead=""):
    """Gets files of a data set; the commit that came is part of their paths, and so of the record.

    Args:
        repository: hub id, names: its files, revision: commit to take, instead: what to give where there is no hub.
    Returns:
        list of paths, in the order of names. Ends the program in one line when one does not come.
    """
    from huggingface_hub import hf_hub_download

    try:
        return [Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision)) for name in names]
    except Exception as error:  # the hub client raises many kinds; each is a reason to give a local copy
        fail(
            f"cannot get {repository} from the hub: {str(error).strip().splitlines()[0]}; check the network, or give {instead}"
        )

"""Whether servers of a video model are there: asked at the start, and when a video failed for want of one."""

from __future__ import annotations

from contextlib import suppress

from ..errors import RunError, UserError
from .server_reply import Failure
from .server_rotation import Rotation, barred_sentence
from .video_jobs import JobError

_CHECK_TIMEOUT = 10.0


def check_servers(rotation: Rotation, model: str, timeout: float, key_variable: str, key: str) -> None:
    """Asks every server once; those that do not answer are left out for a while.

    Args:
        rotation: The servers.
        model: The model that they should serve.
        timeout: Seconds without a byte after which a request has failed.
        key_variable: Environment variable of the key.
        key: The key.

    Raises:
        UserError: If none is there, or one refuses the key or serves other models.
    """
    absent = []
    for server in rotation.servers:
        try:
            served = server.client.models(min(timeout, _CHECK_TIMEOUT))
        except JobError as error:
            if error.failure.kind == "barred":
                raise UserError(barred_sentence(server.url, model, error.failure, key_variable, key)) from None
            absent.append((server, error.failure.remark))
            continue
        if served and model not in served:
            raise UserError(
                f"{server.url} must serve the model {model}. Got {', '.join(served[:5])}; correct `model` or `url`."
            )
    if len(absent) == len(rotation.servers):
        raise UserError(
            f"A server for {model} must answer at {rotation.places}. Got {absent[0][1]}; start it, or correct `url`."
        )
    for server, why in absent:
        rotation.leave_out(server, why)


def check_still_there(rotation: Rotation, model: str, timeout: float, failure: Failure, tries: int) -> None:
    """Looks whether a failure is the video's own.

    Args:
        rotation: The servers.
        model: The model that they serve.
        timeout: Seconds without a byte after which a request has failed.
        failure: The failure of the last try.
        tries: How many there were.

    Raises:
        RunError: If it is not, so that the run stops and can go on later.
    """
    if failure.kind == "busy":
        raise RunError(
            f"{model} at {rotation.places} must have room. Got {failure.remark} after {tries} tries; what was made is safe: lower "
            "`concurrency`, raise `retries`, or look at your quota, and run the same command again to go on."
        )
    if failure.kind != "unreachable":
        return
    for server in rotation.servers:
        with suppress(JobError):
            server.client.models(min(timeout, _CHECK_TIMEOUT))
            return
    raise RunError(
        f"{model} at {rotation.places} must go on answering. Got {failure.remark}; what was made is safe: start the server again, "
        "and run the same command again to go on."
    )

"""Which runner runs the graph, with which of Beam's options, and how its end is told."""

import os
import re
import signal
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, nullcontext, suppress
from threading import Thread, current_thread, main_thread

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from apache_beam.runners.runner import PipelineResult

from pipeline.errors import STOPPED, STOPPED_CODE, JobError, UsageError
from pipeline.progress import CLEAR_LINE

# What Flink's job server takes and Beam's Python options do not name: it reads these itself, once the job is there.
_FLINK_OPTIONS = (
    "allow_non_restored_state",
    "attached_mode",
    "auto_balance_write_files_sharding_enabled",
    "auto_watermark_interval",
    "checkpoint_timeout_millis",
    "checkpointing_interval",
    "checkpointing_mode",
    "disable_metrics",
    "enable_stable_input_drain",
    "execution_mode_for_batch",
    "execution_retry_delay",
    "externalized_checkpoints_enabled",
    "fail_on_checkpointing_errors",
    "faster_copy",
    "finish_bundle_before_checkpointing",
    "flink_conf_dir",
    "force_unaligned_checkpoint_enabled",
    "job_check_interval_in_secs",
    "latency_tracking_interval",
    "max_bundle_size",
    "max_bundle_time_mills",
    "min_pause_between_checkpoints",
    "num_concurrent_checkpoints",
    "number_of_execution_retries",
    "object_reuse",
    "operator_chaining",
    "re_iterable_group_by_key_result",
    "report_checkpoint_duration",
    "retain_externalized_checkpoints_on_cancellation",
    "savepoint_path",
    "shutdown_sources_after_idle_ms",
    "state_backend",
    "state_backend_factory",
    "state_backend_storage_path",
    "unaligned_checkpoint_enabled",
    "use_data_stream_for_batch",
)
_JOB_SERVERS = ("portable", "flink")
_CANCEL_MS = 60_000
_SIGNAL_S = 0.5
_IN_PROCESS = ("fnapi", "prism")
_ERROR_LINE = re.compile(r"^(?:Caused by: )?(?:[\w$]+\.)*\w*(?:Error|Exception): (.+)$", re.MULTILINE)


def new_pipeline(beam_args: Sequence[str], *, streaming: bool = False) -> beam.Pipeline:
    """Makes an empty pipeline of Beam's own options.

    Args:
      beam_args: The options.
      streaming: Whether it is to run as a stream; Flink does not see that by itself.

    Raises:
      UsageError: An option is unknown or wrong, or the runner is not to be had.
    """
    options = beam_options(beam_args)
    options.view_as(StandardOptions).streaming |= streaming
    try:
        return beam.Pipeline(options=options)
    except (ValueError, ImportError) as error:
        raise UsageError(f"{options.view_as(StandardOptions).runner} cannot run: {str(error).strip()}") from error


def beam_options(beam_args: Sequence[str]) -> PipelineOptions:
    """Reads Beam's own options, and takes no word that none of them knows; Beam itself would drop it.

    DirectRunner means the in-process runner by its own name: left to choose, Beam first tries to download another.

    Raises:
      UsageError: An option is unknown, or its value is not one it takes.
    """
    parser = _BeamArgumentParser(allow_abbrev=False, add_help=False, exit_on_error=False)
    for options in PipelineOptions.__subclasses__():
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(parser)
    found = PipelineOptions([*beam_args, "--no_save_main_session"])
    standard = found.view_as(StandardOptions)
    if _short_name(standard.runner) in ("", "direct"):
        standard.runner = "FnApiRunner"
    if _short_name(standard.runner) in _JOB_SERVERS:
        for name in _FLINK_OPTIONS:
            parser.add_argument(f"--{name}", nargs="?")
    try:
        _, unknown = parser.parse_known_args(list(beam_args))
    except ArgumentError as error:
        raise UsageError(str(error)) from error
    if unknown:
        secret = unknown[0].startswith("--client-secret")
        hint = ": a secret is no option; set AUDITLAKE_CLIENT_SECRET or name --client-secret-file" if secret else ""
        shown = unknown[0].partition("=")[0]
        raise UsageError(f"unknown option {shown!r}{hint}; see auditlake backfill --help")
    return found


def _short_name(runner: str | None) -> str:
    return (runner or "").rpartition(".")[2].lower().removesuffix("runner")


def is_in_process(options: PipelineOptions) -> bool:
    """Tells whether the steps run in this process, so that their counts can be watched here."""
    return _short_name(options.view_as(StandardOptions).runner) in _IN_PROCESS


def is_waited_for(options: PipelineOptions) -> bool:
    """Tells whether a run is to be waited for; a template is only written, and whoever launches it has the job."""
    submit_only = options.view_as(StandardOptions).no_wait_until_finish
    return not (submit_only or options.view_as(GoogleCloudOptions).template_location)


def takes_turns(options: PipelineOptions) -> bool:
    """Tells whether a runner works on one element after the other: the one in this process, unless told otherwise."""
    return not can_wait_between_polls(options) and options.view_as(DirectOptions).direct_num_workers == 1


def can_wait_between_polls(options: PipelineOptions) -> bool:
    """Tells whether a runner can keep an open source waiting; the one in this process asks it again at once."""
    return _short_name(options.view_as(StandardOptions).runner) != "fnapi"


def run_graph(p: beam.Pipeline) -> None:
    """Runs a pipeline, to its end where it is to be waited for; Ctrl-C ends the job too.

    Raises:
      JobError: The runner could not be reached, or gave the job up.
    """
    with _told(p):
        result = p.run()
        if not is_waited_for(p.options):
            return
        try:
            result.wait_until_finish()
        except KeyboardInterrupt:
            result.cancel()
            raise


def run_together(pipelines: Sequence[beam.Pipeline]) -> None:
    """Runs pipelines at the same time; one that fails stops no other, and is told when all have ended.

    Raises:
      JobError: The runner could not be reached, or gave a job up.
    """
    is_all_here = all(_is_one_process(p.options) for p in pipelines) and current_thread() is main_thread()
    if len(pipelines) == 1 and not is_all_here:
        run_graph(pipelines[0])
        return
    with _stopped_by_ctrl_c() if is_all_here else nullcontext():
        _run_in_threads(pipelines)


def _is_one_process(options: PipelineOptions) -> bool:
    mode = options.view_as(DirectOptions).direct_running_mode
    return not can_wait_between_polls(options) and mode != "multi_processing"


@contextmanager
def _stopped_by_ctrl_c() -> Iterator[None]:
    """Lets Ctrl-C end the process at once: its threads may wait for the quota for long, and no crash does any harm."""

    def stop(*_: object) -> None:
        clear = CLEAR_LINE if sys.stderr.isatty() else ""
        os.write(2, f"{clear}{STOPPED}\n".encode())
        os._exit(STOPPED_CODE)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _run_in_threads(pipelines: Sequence[beam.Pipeline]) -> None:
    ends: list[Future[None]] = [Future() for _ in pipelines]

    def run(p: beam.Pipeline, end: Future[None]) -> None:
        try:
            run_graph(p)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the end is told
            end.set_exception(error)
        else:
            end.set_result(None)

    for p, end in zip(pipelines, ends, strict=True):
        Thread(target=run, args=(p, end), daemon=True).start()
    while wait(ends, timeout=_SIGNAL_S).not_done:
        pass  # a signal that another thread was given wakes nobody here
    for end in ends:
        end.result()


def start_graph(p: beam.Pipeline) -> PipelineResult:
    """Starts a pipeline and does not wait for it.

    Raises:
      JobError: The runner could not be reached.
    """
    result: PipelineResult
    with _told(p):
        result = p.run()
    return result


def job_state(p: beam.Pipeline, result: PipelineResult) -> str:
    """Asks the runner how a job stands.

    Raises:
      JobError: The runner could not be reached.
    """
    with _told(p):
        state = result.state
    return str(state)


def cancel(result: PipelineResult) -> None:
    """Ends a job, and waits until it has ended or the runner no longer answers."""
    with suppress(grpc.RpcError, RuntimeError):
        result.cancel()
        result.wait_until_finish(duration=_CANCEL_MS)


@contextmanager
def _told(p: beam.Pipeline) -> Iterator[None]:
    """Tells in a sentence why a runner failed."""
    runner = p.options.view_as(StandardOptions).runner
    try:
        yield
    except (grpc.RpcError, grpc.FutureTimeoutError) as error:
        raise JobError(f"{runner} cannot be reached ({type(error).__name__}): is --job_endpoint right?") from error
    except (RuntimeError, ValueError, OSError, ImportError) as error:
        # Beam makes this of a Ctrl-C that falls into a step.
        if str(error).startswith("KeyboardInterrupt"):
            raise KeyboardInterrupt from error
        if _short_name(runner) == "fnapi":
            raise
        raise JobError(f"the job failed on {runner}: {_cause(str(error))}") from error


def _cause(text: str) -> str:
    """Finds the sentence in what a runner says of a failure: the last error that its tracebacks name."""
    named = _ERROR_LINE.findall(text)
    cause = str(named[-1] if named else text.strip().partition("\n")[0])
    return f"{cause.partition(' [while running')[0]}; what was committed stays, run the same command again to go on"

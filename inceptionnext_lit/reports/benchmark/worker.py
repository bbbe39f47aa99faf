"""The process of a case, which shares neither memory nor compiled code nor an allocator with others.

It imports torch only for what torch runs, so that many exported files can be measured at once.
"""

import logging
from multiprocessing.connection import Connection

from inceptionnext_lit.allocator import keep_memory
from inceptionnext_lit.reports.benchmark.case import Case, Ready


def prepare(case: Case) -> Ready:
    """Return a case that is ready to run.

    Args:
        case: What is measured.

    Raises:
        Exception: Whatever the model or its runtime raises.
    """
    if case.file is not None:
        from inceptionnext_lit.reports.benchmark.exported import ExportedBench

        return ExportedBench(case)
    from inceptionnext_lit.reports.benchmark.torch_bench import Bench

    return Bench(case)


def serve(connection: Connection, case: Case) -> None:
    """Run a case, and call its methods on request.

    Args:
        connection: Receives the name of a method of :class:`Ready` and its arguments, or None to end; sends the
            returned value, or the exception raised. The first message sent tells whether the case is ready.
        case: What is measured.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns about a missing CUDA folder
    if case.keeps_memory:
        keep_memory()
    try:
        bench = prepare(case)
    except Exception as error:  # the parent process reports errors of any type
        connection.send(error)
        return
    connection.send({"warm_up_s": bench.warm_up_s, "layout": bench.layout, "device": bench.device_name})
    while (asked := connection.recv()) is not None:
        name, arguments = asked
        try:
            connection.send(getattr(bench, name)(*arguments))
        except Exception as error:
            connection.send(error)

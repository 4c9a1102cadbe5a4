"""The jobs that Dagster is measured with: operations that do nothing, in the run's own process."""

from dagster import Definitions, In, JobDefinition, Nothing, in_process_executor, job, op


@op
def first() -> None: ...


@op(ins={"start": In(Nothing)})
def node() -> None: ...


def chain(name: str, count: int) -> JobDefinition:
    @job(name=name, executor_def=in_process_executor)
    def made() -> None:
        before = first()
        for number in range(1, count):
            before = node.alias(f"n{number}")(start=before)

    return made


def fan(name: str, count: int) -> JobDefinition:
    @job(name=name, executor_def=in_process_executor)
    def made() -> None:
        for number in range(count):
            first.alias(f"f{number}")()

    return made


defs = Definitions(
    jobs=[chain("one", 1), chain("five", 5), chain("chain", 100), fan("fan", 100)],
)

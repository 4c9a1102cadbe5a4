"""The flows that Prefect is measured with: tasks that do nothing, in the flow run's process.

Run as a program it serves them: four runs at a time, with a look for new ones each second.
"""

from prefect import flow, serve, task


@task
def node(number: int, *_before: int) -> int:
    return number


@flow
def chain(count: int) -> None:
    before = 0
    for number in range(count):
        before = node(number, before)


@flow
def fan(count: int) -> None:
    for future in node.map(list(range(count))):
        future.result()


if __name__ == "__main__":
    deployments = chain.to_deployment("bench"), fan.to_deployment("bench")
    serve(*deployments, limit=4, query_seconds=1)

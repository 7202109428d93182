/*
 * Master and workers: rank 0 hands out tasks, as many as `rounds` for each worker on average, to whoever is free.
 *
 * A task is a message, its result a quarter of one; an empty message sends a worker home. Some workers are slower
 * than others, so they get unequal shares, which nobody knows beforehand.
 */
#include "exchange.h"

enum { QUICK_MICROSECONDS = 10000, SLOWEST = 4 };

static void be_master(struct work work, char *task, char *result)
{
    int left = work.rounds * (work.ranks - 1), busy = 0;
    for (int worker = 1; worker < work.ranks && left > 0; worker++, left--, busy++)
        MPI_Send(task, work.bytes, MPI_BYTE, worker, TAG, MPI_COMM_WORLD);
    while (busy > 0) {
        MPI_Status status;
        MPI_Recv(result, work.bytes, MPI_BYTE, MPI_ANY_SOURCE, TAG, MPI_COMM_WORLD, &status);
        if (left > 0) {
            MPI_Send(task, work.bytes, MPI_BYTE, status.MPI_SOURCE, TAG, MPI_COMM_WORLD);
            left--;
        } else {
            busy--;
        }
    }
    for (int worker = 1; worker < work.ranks; worker++)
        MPI_Send(task, 0, MPI_BYTE, worker, TAG, MPI_COMM_WORLD);
}

static void be_worker(struct work work, char *task, char *result)
{
    srand((unsigned)(work.seed * 1000 + work.rank));
    int slowness = 1 + rand() % SLOWEST;
    for (;;) {
        MPI_Status status;
        int bytes;
        MPI_Recv(task, work.bytes, MPI_BYTE, 0, TAG, MPI_COMM_WORLD, &status);
        MPI_Get_count(&status, MPI_BYTE, &bytes);
        if (bytes == 0)
            return;
        usleep(slowness * QUICK_MICROSECONDS);
        MPI_Send(result, work.bytes / 4, MPI_BYTE, 0, TAG, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    struct work work = begin(argc, argv);
    char *task = room(1, work.bytes), *result = room(1, work.bytes);
    if (work.rank == 0)
        be_master(work, task, result);
    else
        be_worker(work, task, result);
    MPI_Finalize();
    return 0;
}

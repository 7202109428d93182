/* Ring: each rank passes on to the next what it got from the one before, as ring all-reduce does. */
#include "exchange.h"

int main(int argc, char **argv)
{
    struct work work = begin(argc, argv);
    int next = (work.rank + 1) % work.ranks;
    int previous = (work.rank + work.ranks - 1) % work.ranks;
    char *out = room(1, work.bytes), *in = room(1, work.bytes);

    for (int round = 0; round < work.rounds; round++)
        MPI_Sendrecv(out, work.bytes, MPI_BYTE, next, TAG, in, work.bytes, MPI_BYTE, previous, TAG,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Finalize();
    return 0;
}

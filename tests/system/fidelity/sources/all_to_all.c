/* All-to-all: the collective, as the transposition of a distributed Fourier transform uses it. */
#include "exchange.h"

int main(int argc, char **argv)
{
    struct work work = begin(argc, argv);
    char *out = room(work.ranks, work.bytes), *in = room(work.ranks, work.bytes);

    for (int round = 0; round < work.rounds; round++)
        MPI_Alltoall(out, work.bytes, MPI_BYTE, in, work.bytes, MPI_BYTE, MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}

/*
 * Halo: ranks row by row on a square grid, each exchanging its edges with its up to four neighbours.
 *
 * The grid ends at its borders. Wrapped round, a grid of 4 by 4 would be the hypercube of a butterfly.
 */
#include "exchange.h"

int main(int argc, char **argv)
{
    struct work work = begin(argc, argv);
    int side = 1;
    while (side * side < work.ranks)
        side++;
    if (side * side != work.ranks)
        MPI_Abort(MPI_COMM_WORLD, 2);
    int row = work.rank / side, column = work.rank % side;

    int neighbours[4], count = 0;
    if (row > 0)
        neighbours[count++] = work.rank - side;
    if (row < side - 1)
        neighbours[count++] = work.rank + side;
    if (column > 0)
        neighbours[count++] = work.rank - 1;
    if (column < side - 1)
        neighbours[count++] = work.rank + 1;

    char *out = room(4, work.bytes), *in = room(4, work.bytes);
    for (int round = 0; round < work.rounds; round++) {
        MPI_Request requests[8];
        for (int i = 0; i < count; i++) {
            char *to = out + (size_t)i * work.bytes, *from = in + (size_t)i * work.bytes;
            MPI_Irecv(from, work.bytes, MPI_BYTE, neighbours[i], TAG, MPI_COMM_WORLD, &requests[2 * i]);
            MPI_Isend(to, work.bytes, MPI_BYTE, neighbours[i], TAG, MPI_COMM_WORLD, &requests[2 * i + 1]);
        }
        MPI_Waitall(2 * count, requests, MPI_STATUSES_IGNORE);
    }
    MPI_Finalize();
    return 0;
}

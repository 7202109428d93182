/*
 * Butterfly: in step k each rank exchanges with the one whose number differs in bit k, as recursive doubling
 * does. The number of ranks is a power of two.
 */
#include "exchange.h"

int main(int argc, char **argv)
{
    struct work work = begin(argc, argv);
    char *out = room(1, work.bytes), *in = room(1, work.bytes);

    for (int round = 0; round < work.rounds; round++)
        for (int bit = 1; bit < work.ranks; bit <<= 1) {
            int partner = work.rank ^ bit;
            MPI_Sendrecv(out, work.bytes, MPI_BYTE, partner, TAG, in, work.bytes, MPI_BYTE, partner,
                         TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        }
    MPI_Finalize();
    return 0;
}

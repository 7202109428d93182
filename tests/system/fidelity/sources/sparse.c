/*
 * Random sparse: each rank sends to three others drawn at random, over links of unequal weight, from an eighth of
 * a message to a whole one. All ranks draw the same graph from the seed.
 */
#include "exchange.h"

enum { DEGREE = 3 };

/* splitmix64: the same numbers everywhere, whatever the C library. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Fill `weight[from * ranks + to]` with the bytes of a message on that link, 0 where there is none. */
static void draw_links(struct work work, int *weight)
{
    uint64_t state = work.seed;
    for (int from = 0; from < work.ranks; from++)
        for (int drawn = 0; drawn < DEGREE;) {
            int to = (int)(draw(&state) % (uint64_t)work.ranks);
            int *link = &weight[from * work.ranks + to];
            if (to == from || *link)
                continue;
            *link = work.bytes / 8 + (int)(draw(&state) % (uint64_t)(work.bytes - work.bytes / 8));
            drawn++;
        }
}

int main(int argc, char **argv)
{
    struct work work = begin(argc, argv);
    int ranks = work.ranks;
    int *weight = calloc((size_t)ranks * ranks, sizeof *weight);
    draw_links(work, weight);
    char *out = room(1, work.bytes), *in = room(ranks, work.bytes);
    MPI_Request *requests = malloc(2 * (size_t)ranks * sizeof *requests);

    for (int round = 0; round < work.rounds; round++) {
        int open = 0;
        for (int other = 0; other < ranks; other++) {
            int inward = weight[other * ranks + work.rank], outward = weight[work.rank * ranks + other];
            if (inward)
                MPI_Irecv(in + (size_t)other * work.bytes, inward, MPI_BYTE, other, TAG, MPI_COMM_WORLD,
                          &requests[open++]);
            if (outward)
                MPI_Isend(out, outward, MPI_BYTE, other, TAG, MPI_COMM_WORLD, &requests[open++]);
        }
        MPI_Waitall(open, requests, MPI_STATUSES_IGNORE);
    }
    MPI_Finalize();
    return 0;
}

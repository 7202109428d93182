/*
 * What the programs share: what to send is told on the command line, and each rank says where it runs.
 *
 *   PROGRAM MESSAGE_BYTES ROUNDS [SEED]
 *
 * None of them makes communicators or calls a barrier: both send messages of their own, which would be in the
 * matrix beside those that the program is about.
 */
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TAG = 1 };

struct work {
    int rank, ranks;
    int bytes;  /* of one message */
    int rounds;
    uint64_t seed;
};

static inline struct work begin(int argc, char **argv)
{
    struct work work = {0};
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &work.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &work.ranks);
    if (argc < 3) {
        fprintf(stderr, "usage: %s MESSAGE_BYTES ROUNDS [SEED]\n", argv[0]);
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    work.bytes = atoi(argv[1]);
    work.rounds = atoi(argv[2]);
    work.seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;

    char host[256];
    gethostname(host, sizeof host);
    printf("rank %d on %s\n", work.rank, host);
    fflush(stdout);
    return work;
}

/* Room for `count` messages of up to `bytes`; written to, so that its pages are there. */
static inline char *room(int count, int bytes)
{
    char *messages = malloc((size_t)count * bytes);
    if (!messages)
        MPI_Abort(MPI_COMM_WORLD, 1);
    memset(messages, 'x', (size_t)count * bytes);
    return messages;
}

#endif

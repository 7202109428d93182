// Sends frames as fast as the machine can, and says what that took:
//     sender INTERFACE FRAMES BYTES [CPU]
// The frames are UDP over IPv4 among 64 machines that talk in groups of eight, 256 pairs in all; with BYTES 0 half of
// them are small, and most of the rest are full. They go out by AF_PACKET past the queueing discipline, 64 a call.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

enum { PREPARED = 1024, AT_ONCE = 64, LARGEST = 1514, SMALLEST = 64, MACHINES = 64, GROUP = 8, HEADERS = 42 };

static uint8_t frames[PREPARED][LARGEST];
static struct iovec parts[PREPARED];
static struct mmsghdr messages[PREPARED];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void put16(uint8_t *at, unsigned value)
{
    at[0] = value >> 8;
    at[1] = value;
}

static int length_of(int wanted)
{
    if (wanted)
        return wanted;
    if (rand() % 2)
        return 66;
    return rand() % 5 ? LARGEST : 100 + rand() % 1300;
}

static void prepare(int number, int length)
{
    int source = rand() % MACHINES;
    int destination = source / GROUP * GROUP + (source + 1 + rand() % 4) % GROUP;
    uint8_t *ether = frames[number], *ip = ether + 14, *udp = ip + 20;
    memcpy(ether, (uint8_t[]){ 0x52, 0x54, 0, 0, 0, destination, 0x52, 0x54, 0, 0, 0, source, 8, 0 }, 14);
    memcpy(ip, (uint8_t[]){ 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, source, 10, 0, 0, destination }, 20);
    put16(ip + 2, length - 14);
    uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2)
        sum += ip[i] << 8 | ip[i + 1];
    sum = (sum >> 16) + (sum & 0xffff);
    put16(ip + 10, ~(sum + (sum >> 16)));
    put16(udp, 40000 + number % 64);
    put16(udp + 2, 5201);
    put16(udp + 4, length - 34);
    parts[number] = (struct iovec){ ether, length };
    messages[number].msg_hdr.msg_iov = &parts[number];
    messages[number].msg_hdr.msg_iovlen = 1;
}

static int open_socket(const char *interface)
{
    struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(0x0800) };
    int one = 1, room = 1 << 22, opened = socket(AF_PACKET, SOCK_RAW, 0);
    if (opened < 0)
        fail("socket");
    setsockopt(opened, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
    setsockopt(opened, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    at.sll_ifindex = if_nametoindex(interface);
    if (bind(opened, (struct sockaddr *)&at, sizeof at))
        fail(interface);
    return opened;
}

static double clock_of(clockid_t which)
{
    struct timespec now;
    clock_gettime(which, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

int main(int count, char **words)
{
    if (count < 4)
        return fprintf(stderr, "usage: sender INTERFACE FRAMES BYTES [CPU]\n"), 2;
    long wanted = atol(words[2]), sent = 0, bytes = 0;
    int length = atoi(words[3]);
    if (length && (length < SMALLEST || length > LARGEST))
        return fprintf(stderr, "frames have %d to %d bytes\n", SMALLEST, LARGEST), 2;
    if (count > 4) {
        cpu_set_t only;
        CPU_ZERO(&only);
        CPU_SET(atoi(words[4]), &only);
        sched_setaffinity(0, sizeof only, &only);
    }
    int out = open_socket(words[1]);
    srand(1);
    for (int i = 0; i < PREPARED; i++)
        prepare(i, length_of(length));

    double began = clock_of(CLOCK_MONOTONIC), began_cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    for (int next = 0; sent < wanted;) {
        int most = PREPARED - next < AT_ONCE ? PREPARED - next : AT_ONCE;
        if (wanted - sent < most)
            most = wanted - sent;
        int done = sendmmsg(out, messages + next, most, 0);
        if (done < 0 && errno != ENOBUFS && errno != EAGAIN)
            fail("sendmmsg");
        for (int i = 0; i < done; i++)
            bytes += parts[next + i].iov_len;
        sent += done > 0 ? done : 0;
        next = (next + (done > 0 ? done : 0)) % PREPARED;
    }
    printf("{\"frames\": %ld, \"bytes\": %ld, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", sent, bytes,
           clock_of(CLOCK_MONOTONIC) - began, clock_of(CLOCK_PROCESS_CPUTIME_ID) - began_cpu);
    return 0;
}

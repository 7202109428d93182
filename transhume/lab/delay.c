/* The WAN of a lab that has a delay: a switch that hands every frame on after the same time.
 *
 *   delay PIDFILE MICROSECONDS TAP TAP...
 *
 * Makes the TAPs in the network namespace that it is run in, writes its process's number and goes into the
 * background; once the first process has ended well, all is there. What stands behind which TAP is learned from
 * senders' addresses. The TAPs take super-frames whole, with the header that says how to cut them: so bulk costs
 * one read and one write per 64 KiB. As the delay is the same for all, what waits is one queue; it is bounded,
 * and what finds no room in it is lost, as at any router.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { PORTS = 32, STATIONS = 64, ADDRESS = 6, FRAME_BYTES = 1 << 17, BATCH = 32, EVERYONE = -1 };
enum { HEADER = sizeof(struct virtio_net_hdr), SHORTEST = HEADER + 2 * ADDRESS };
static const size_t QUEUE_BYTES = 256u << 20;

struct frame {
  struct frame *next;
  uint64_t due;
  int from;
  size_t length;
  unsigned char bytes[];
};

static struct frame *first, **last = &first;
static size_t queued;
static struct pollfd port[PORTS];
static int ports;
static struct {
  unsigned char address[ADDRESS];
  int port;
} station[STATIONS];
static int stations;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int open_tap(const char *name) {
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  strncpy(request.ifr_name, name, IFNAMSIZ - 1);
  if (fd < 0 || ioctl(fd, TUNSETIFF, &request)) fail(name);
  if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)) fail("TUNSETOFFLOAD");
  return fd;
}

/* --- who is where ------------------------------------------------------------------------------ */

static int find(const unsigned char *address) {
  int i = 0;
  while (i < stations && memcmp(station[i].address, address, ADDRESS)) i++;
  return i;
}

static void learn(const unsigned char *address, int at) {
  int i = find(address);
  if (i == STATIONS) return; /* more than a lab has: flooded, then */
  if (i == stations) memcpy(station[stations++].address, address, ADDRESS);
  station[i].port = at;
}

static int whereto(const unsigned char *address) {
  int i = address[0] & 1 ? stations : find(address);
  return i < stations ? station[i].port : EVERYONE;
}

/* --- frames ------------------------------------------------------------------------------------ */

static void take_frames(int at, uint64_t delay) {
  static unsigned char buffer[FRAME_BYTES];
  for (int i = 0; i < BATCH; i++) {
    ssize_t n = read(port[at].fd, buffer, sizeof buffer);
    if (n < 0 && errno != EAGAIN && errno != EINTR) fail("read"); /* the TAP has gone, and the WAN with it */
    if (n < SHORTEST) return;
    struct frame *f = queued + (size_t)n > QUEUE_BYTES ? 0 : malloc(sizeof *f + (size_t)n);
    if (!f) continue;
    *f = (struct frame){.due = now_ns() + delay, .from = at, .length = (size_t)n};
    memcpy(f->bytes, buffer, f->length);
    learn(f->bytes + HEADER + ADDRESS, at);
    queued += f->length;
    *last = f;
    last = &f->next;
  }
}

static void hand_on(const struct frame *f) {
  int to = whereto(f->bytes + HEADER);
  for (int i = 0; i < ports; i++)
    if (i != f->from && (to == i || to == EVERYONE))
      if (write(port[i].fd, f->bytes, f->length) < 0 && errno != EAGAIN && errno != EIO && errno != EINVAL)
        fail("write");
}

/* Hand on what is due; return how long it is until something else is, -1 for never. */
static int64_t hand_on_all(void) {
  for (struct frame *f; (f = first);) {
    uint64_t now = now_ns();
    if (f->due > now) return (int64_t)(f->due - now);
    hand_on(f);
    queued -= f->length;
    if (!(first = f->next)) last = &first;
    free(f);
  }
  return -1;
}

static void go_into_background(const char *pid_file) {
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child > 0) {
    FILE *file = fopen(pid_file, "w");
    if (!file || fprintf(file, "%d\n", (int)child) < 0 || fclose(file)) fail(pid_file);
    exit(0);
  }
  setsid();
}

int main(int count, char **words) {
  if (count < 4 || count - 3 > PORTS) return fprintf(stderr, "usage: delay PIDFILE MICROSECONDS TAP...\n"), 2;
  uint64_t delay = strtoull(words[2], 0, 10) * 1000;
  for (; ports < count - 3; ports++) port[ports] = (struct pollfd){open_tap(words[3 + ports]), POLLIN, 0};
  go_into_background(words[1]);
  prctl(PR_SET_TIMERSLACK, 1000);
  setpriority(PRIO_PROCESS, 0, -10); /* busy guests would add delay of their own */
  for (;;) {
    int64_t wait = hand_on_all();
    struct timespec time = {wait / 1000000000, wait % 1000000000};
    if (ppoll(port, (nfds_t)ports, wait < 0 ? 0 : &time, 0) <= 0) continue;
    for (int i = 0; i < ports; i++)
      if (port[i].revents) take_frames(i, delay);
  }
}

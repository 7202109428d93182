/* What looks at a guest from beside it: a pinger, a checked conversation, and two that only listen.
 *
 *   probe ping ADDRESS PORT MICROSECONDS        send a datagram so often; note which come back, and when none did;
 *                                               PORT 0: ICMP, which the guest's kernel answers by itself
 *   probe talk ADDRESS PORT MICROSECONDS BYTES  send the pattern, so much so often, over one connection to an echo
 *   probe taps MAC PORT                         note which such datagrams pass the VM's own interfaces, and which
 *                                               announcement of the VM does (RARP; its peer is 0.0.0.0)
 *   probe floods                                count unicast frames that reach this namespace and aren't for it
 *
 * Each works until its standard input ends, and then prints one JSON object. The conversation prints one, too, for
 * each line that it is given: what happened since the one before. All times are seconds of CLOCK_MONOTONIC, which
 * has the same value in all namespaces. Who sends each millisecond must be woken each millisecond: the pinger
 * runs before everything else on the machine, and needs a hundredth of a core.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"

enum { MOST_GAPS = 4096, MOST_ROWS = 1024, FRAME = 2048, ROOM = 16 << 20, BACKLOG = 4 << 20 };
static const uint64_t SECOND = 1000000000, STRAGGLERS = 2 * 1000000000ull;
static const uint64_t CONNECTING = 20 * 1000000000ull, DRAINING = 60 * 1000000000ull;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static double seconds(uint64_t ns) { return (double)ns / 1e9; }

/* Wait for either descriptor until a moment; say whether standard input has something to say. */
static int wait_until(uint64_t when, int fd, short events) {
  struct pollfd both[] = {{0, POLLIN, 0}, {fd, events, 0}};
  uint64_t now = now_ns(), left = when > now ? when - now : 0;
  struct timespec time = {(time_t)(left / SECOND), (long)(left % SECOND)};
  return ppoll(both, fd < 0 ? 1 : 2, &time, 0) > 0 && both[0].revents;
}

/* --- silences ---------------------------------------------------------------------------------- */

static struct gap {
  uint64_t began, length;
} gaps[MOST_GAPS], longest;
static int gap_count;
static uint64_t heard_at, worth_telling = 10000000;

static void hear(uint64_t now) {
  if (heard_at) {
    struct gap gap = {heard_at, now - heard_at};
    if (gap.length > longest.length) longest = gap;
    if (gap.length >= worth_telling && gap_count < MOST_GAPS) gaps[gap_count++] = gap;
  }
  heard_at = now;
}

static void tell_gaps(void) {
  printf("\"longest\": [%.6f, %.6f], \"gaps\": [", seconds(longest.began), seconds(longest.length));
  for (int i = 0; i < gap_count; i++)
    printf("%s[%.6f, %.6f]", i ? ", " : "", seconds(gaps[i].began), seconds(gaps[i].length));
  printf("]");
  gap_count = 0;
  longest = (struct gap){0, 0};
}

/* --- ping -------------------------------------------------------------------------------------- */

enum { IP_HEADER = 20 };
struct datagram {
  struct icmphdr icmp; /* by UDP, without meaning */
  uint64_t run, number; /* which process's, and which of them */
};

static struct {
  uint64_t at;
  uint32_t answers;
} *sent;
static uint64_t sent_count, room_for, received, duplicates, reordered, skipped, newest;
static double *trips; /* seconds */

static void note_sent(void) {
  if (sent_count == room_for) {
    room_for = room_for ? 2 * room_for : 1 << 16;
    sent = realloc(sent, room_for * sizeof *sent);
    trips = realloc(trips, room_for * sizeof *trips);
    if (!sent || !trips) fail("memory");
  }
  sent[sent_count].at = now_ns();
  sent[sent_count++].answers = 0;
}

static uint16_t checksum(const void *data, size_t length) {
  const unsigned char *bytes = data;
  uint32_t sum = 0;
  for (size_t i = 0; i < length; i += 2) sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons((uint16_t)~sum);
}

static void send_one(int fd, struct datagram *d) {
  d->number = sent_count;
  d->icmp = (struct icmphdr){.type = ICMP_ECHO, .un.echo = {.id = (uint16_t)d->run, .sequence = (uint16_t)d->number}};
  d->icmp.checksum = checksum(d, sizeof *d);
  note_sent();
  send(fd, d, sizeof *d, MSG_DONTWAIT); /* what the kernel refuses is lost as well */
}

static void take_answers(int fd, uint64_t run, size_t header) {
  unsigned char data[FRAME];
  struct datagram d;
  for (ssize_t n; (n = recv(fd, data, sizeof data, MSG_DONTWAIT)) >= 0 || errno == ECONNREFUSED || errno == EHOSTUNREACH;) {
    if (n != (ssize_t)(header + sizeof d)) continue;
    memcpy(&d, data + header, sizeof d);
    if ((header && d.icmp.type != ICMP_ECHOREPLY) || d.run != run || d.number >= sent_count) continue;
    uint64_t now = now_ns();
    hear(now);
    if (sent[d.number].answers++) {
      duplicates++;
      continue;
    }
    trips[received++] = seconds(now - sent[d.number].at);
    if (d.number < newest) reordered++;
    else newest = d.number;
  }
}

static void tell_losses(void) {
  int some = 0;
  printf("\"losses\": [");
  for (uint64_t i = 0, next; i < sent_count; i = next) {
    for (next = i; next < sent_count && !sent[next].answers;) next++;
    if (next > i) printf("%s[%.6f, %llu]", some++ ? ", " : "", seconds(sent[i].at), (unsigned long long)(next - i));
    else next++;
  }
  printf("]");
}

static int ascending(const void *a, const void *b) {
  double one = *(const double *)a, other = *(const double *)b;
  return (one > other) - (one < other);
}

static void tell_pings(void) {
  qsort(trips, received, sizeof *trips, ascending);
  printf("{\"sent\": %llu, \"received\": %llu, \"duplicates\": %llu, \"reordered\": %llu, \"skipped\": %llu, ",
         (unsigned long long)sent_count, (unsigned long long)received, (unsigned long long)duplicates,
         (unsigned long long)reordered, (unsigned long long)skipped);
  printf("\"least_trip\": %.6f, \"median_trip\": %.6f, ", received ? trips[0] : 0, received ? trips[received / 2] : 0);
  tell_losses();
  printf(", ");
  tell_gaps();
  printf("}\n");
}

static void run_first(void) {
  struct sched_param priority = {.sched_priority = 20};
  prctl(PR_SET_TIMERSLACK, 1000);
  setpriority(PRIO_PROCESS, 0, -10);
  sched_setscheduler(0, SCHED_RR, &priority); /* where it is forbidden, the priority above has to do */
}

static struct sockaddr_in address_of(const char *ip, int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, ip, &to.sin_addr) != 1) fail(ip);
  return to;
}

static void ping(const char *ip, int port, uint64_t interval) {
  struct sockaddr_in to = address_of(ip, port);
  size_t header = port ? 0 : IP_HEADER; /* which a raw socket brings along */
  int room = ROOM, fd = port ? socket(AF_INET, SOCK_DGRAM, 0) : socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  struct datagram d = {.run = now_ns() ^ (uint64_t)getpid() << 48};
  if (fd < 0 || connect(fd, (void *)&to, sizeof to)) fail("connect");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  run_first();
  int over = 0;
  for (uint64_t next = now_ns(); !over; over = wait_until(next, fd, POLLIN)) {
    take_answers(fd, d.run, header);
    uint64_t now = now_ns();
    if (now < next) continue;
    send_one(fd, &d);
    for (next += interval; next <= now; next += interval) skipped++;
  }
  hear(now_ns()); /* a silence that lasts until now counts */
  heard_at = 0;   /* and what only stragglers end doesn't */
  for (uint64_t end = now_ns() + STRAGGLERS; received < sent_count && now_ns() < end;) {
    struct pollfd one = {fd, POLLIN, 0};
    poll(&one, 1, 10);
    take_answers(fd, d.run, header);
    heard_at = 0;
  }
  tell_pings();
}

/* --- talk -------------------------------------------------------------------------------------- */

static uint64_t written, echoed, wrong;
static const char *failure;

static int open_connection(const struct sockaddr_in *to) {
  struct timeval patience = {(time_t)(CONNECTING / SECOND), 0};
  int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (fd < 0 || connect(fd, (const void *)to, sizeof *to)) fail("connect");
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

static void write_up_to(int fd, uint64_t goal) {
  while (!failure && written < goal) {
    size_t length = goal - written > PERIOD ? PERIOD : goal - written;
    ssize_t n = write(fd, pattern + written % PERIOD, length);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) failure = strerror(errno);
    else written += (uint64_t)n;
  }
}

static void take_echo(int fd) {
  static unsigned char buffer[PERIOD];
  while (!failure) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      failure = n < 0 ? strerror(errno) : "the guest hung up";
      return;
    }
    if (memcmp(buffer, pattern + echoed % PERIOD, (size_t)n)) wrong++;
    echoed += (uint64_t)n;
    hear(now_ns());
  }
}

static void tell_talk(int fd) {
  struct tcp_info info = {0};
  socklen_t size = sizeof info;
  getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
  printf("{\"sent\": %llu, \"echoed\": %llu, \"wrong\": %llu, \"retransmits\": %u, \"failure\": ",
         (unsigned long long)written, (unsigned long long)echoed, (unsigned long long)wrong, info.tcpi_total_retrans);
  printf(failure ? "\"%s\", " : "null, ", failure);
  tell_gaps();
  printf("}\n");
  fflush(stdout);
}

static void talk(const char *ip, int port, uint64_t interval, uint64_t bytes) {
  struct sockaddr_in to = address_of(ip, port);
  int fd = open_connection(&to);
  uint64_t goal = 0, next = now_ns();
  if (worth_telling < 3 * interval) worth_telling = 3 * interval;
  make_pattern();
  signal(SIGPIPE, SIG_IGN);
  setpriority(PRIO_PROCESS, 0, -10);
  for (char asked[256];;) {
    uint64_t now = now_ns();
    if (now >= next) {
      if (goal - echoed < BACKLOG) goal += bytes;
      for (; next <= now;) next += interval;
    }
    write_up_to(fd, goal);
    take_echo(fd);
    if (!wait_until(next, failure ? -1 : fd, POLLIN)) continue;
    ssize_t n = read(0, asked, sizeof asked);
    if (n <= 0) break;
    for (ssize_t i = 0; i < n; i++)
      if (asked[i] == '\n') tell_talk(fd);
  }
  for (uint64_t end = now_ns() + DRAINING; !failure && echoed < goal && now_ns() < end;) {
    struct pollfd one = {fd, POLLIN, 0};
    write_up_to(fd, goal);
    poll(&one, 1, 10);
    take_echo(fd);
  }
  if (!failure && echoed < goal) failure = "echoes are missing";
  tell_talk(fd);
}

/* --- those that listen ------------------------------------------------------------------------- */

static struct row {
  int device;
  unsigned char address[ETH_ALEN]; /* whom a flooded frame is for */
  int outwards;                    /* from the VM */
  uint32_t peer;
  uint64_t first, last, count;
} rows[MOST_ROWS];
static int row_count;
static char names[1 << 16][IF_NAMESIZE]; /* by number; a TAP may be gone by the end */

static const char *name_of(int device) {
  char *name = names[device & 0xffff];
  if (!*name && !if_indextoname((unsigned)device, name)) snprintf(name, IF_NAMESIZE, "%d", device);
  return name;
}

static void note_frame(struct row seen) {
  uint64_t now = now_ns();
  int i = 0;
  while (i < row_count && (rows[i].device != seen.device || rows[i].outwards != seen.outwards ||
                           rows[i].peer != seen.peer || memcmp(rows[i].address, seen.address, ETH_ALEN)))
    i++;
  if (i == MOST_ROWS) return;
  if (i == row_count) {
    rows[row_count++] = seen;
    rows[i].first = now;
  }
  rows[i].last = now;
  rows[i].count++;
}

static int open_listener(void) {
  int room = ROOM, fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
  if (fd < 0) fail("AF_PACKET");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  setpriority(PRIO_PROCESS, 0, -10);
  return fd;
}

/* Have the kernel drop all frames but those from and to an address: it is compared in two pieces. */
static void filter(int fd, const unsigned char *mac) {
  uint32_t head = (uint32_t)mac[0] << 24 | mac[1] << 16 | mac[2] << 8 | mac[3], tail = mac[4] << 8 | mac[5];
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, head, 0, 2),
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, tail, 4, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 6), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, head, 0, 3),
      BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 10), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, tail, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, FRAME), BPF_STMT(BPF_RET | BPF_K, 0),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program)) fail("SO_ATTACH_FILTER");
}

/* Pass every frame to `look` until standard input ends; return how many found no room. */
static unsigned listen_until_end(int fd, void (*look)(const unsigned char *, ssize_t, const struct sockaddr_ll *)) {
  unsigned char frame[FRAME];
  struct tpacket_stats dropped = {0};
  struct sockaddr_ll from;
  for (int over = 0; !over;) {
    over = wait_until(now_ns() + SECOND, fd, POLLIN); /* what passed before that is looked at all the same */
    socklen_t size = sizeof from;
    for (ssize_t n; (n = recvfrom(fd, frame, sizeof frame, MSG_DONTWAIT, (void *)&from, &size)) > 0; size = sizeof from)
      look(frame, n, &from);
  }
  socklen_t size = sizeof dropped;
  getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &dropped, &size);
  return dropped.tp_drops;
}

static unsigned char watched[ETH_ALEN];
static uint16_t watched_port;

static void look_at_tap(const unsigned char *frame, ssize_t length, const struct sockaddr_ll *from) {
  enum { IP = ETH_HLEN, UDP = IP + IP_HEADER };
  int wanted = watched_port ? IPPROTO_UDP : IPPROTO_ICMP;
  if (strncmp(name_of(from->sll_ifindex), "vnet", 4)) return;
  if (length >= IP && frame[12] == 0x80 && frame[13] == 0x35 && from->sll_pkttype != PACKET_OUTGOING)
    note_frame((struct row){.device = from->sll_ifindex, .outwards = 1});
  if (length < UDP + 8 || frame[12] != 8 || frame[13] || frame[IP] != 0x45 || frame[IP + 9] != wanted) return;
  struct row row = {.device = from->sll_ifindex, .outwards = !memcmp(frame + ETH_ALEN, watched, ETH_ALEN)};
  uint16_t port;
  memcpy(&port, frame + UDP + (row.outwards ? 0 : 2), sizeof port);
  if (watched_port ? ntohs(port) != watched_port : frame[UDP] != (row.outwards ? ICMP_ECHOREPLY : ICMP_ECHO)) return;
  if (row.outwards != (from->sll_pkttype != PACKET_OUTGOING)) return;
  memcpy(&row.peer, frame + IP + (row.outwards ? 16 : 12), sizeof row.peer);
  note_frame(row);
}

static void watch_taps(const char *mac, int port) {
  int fd = open_listener();
  unsigned char *a = watched;
  watched_port = (uint16_t)port;
  if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", a, a + 1, a + 2, a + 3, a + 4, a + 5) != 6) fail(mac);
  filter(fd, watched);
  printf("{\"unseen\": %u, \"rows\": [", listen_until_end(fd, look_at_tap));
  for (struct row *r = rows; r < rows + row_count; r++) {
    char peer[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &r->peer, peer, sizeof peer);
    printf("%s{\"tap\": \"%s\", \"from_vm\": %s, \"peer\": \"%s\", \"first\": %.6f, \"last\": %.6f, \"count\": %llu}",
           r == rows ? "" : ", ", name_of(r->device), r->outwards ? "true" : "false", peer, seconds(r->first),
           seconds(r->last), (unsigned long long)r->count);
  }
  printf("]}\n");
}

static void look_for_flood(const unsigned char *frame, ssize_t length, const struct sockaddr_ll *from) {
  if (length < ETH_HLEN || from->sll_pkttype != PACKET_OTHERHOST) return;
  struct row row = {.device = from->sll_ifindex};
  memcpy(row.address, frame, ETH_ALEN);
  note_frame(row);
}

static void watch_floods(void) {
  printf("{\"unseen\": %u, \"rows\": [", listen_until_end(open_listener(), look_for_flood));
  for (struct row *r = rows; r < rows + row_count; r++) {
    unsigned char *a = r->address;
    printf("%s{\"device\": \"%s\", \"mac\": \"%02x:%02x:%02x:%02x:%02x:%02x\", \"first\": %.6f, \"last\": %.6f, "
           "\"count\": %llu}", r == rows ? "" : ", ", name_of(r->device), a[0], a[1], a[2], a[3], a[4], a[5],
           seconds(r->first), seconds(r->last), (unsigned long long)r->count);
  }
  printf("]}\n");
}

int main(int count, char **words) {
  const char *role = count > 1 ? words[1] : "";
  if (!strcmp(role, "ping") && count == 5) ping(words[2], atoi(words[3]), strtoull(words[4], 0, 10) * 1000);
  else if (!strcmp(role, "talk") && count == 6)
    talk(words[2], atoi(words[3]), strtoull(words[4], 0, 10) * 1000, strtoull(words[5], 0, 10));
  else if (!strcmp(role, "taps") && count == 4) watch_taps(words[2], atoi(words[3]));
  else if (!strcmp(role, "floods") && count == 2) watch_floods();
  else return fprintf(stderr, "probe: I don't know how to do that\n"), 2;
  return 0;
}

/* What runs in a lab guest: a command server, checked traffic, a checked echo, checked memory and checked files.
 *
 *   guest commands PORT            run each line that a connection brings; answer output, NUL, exit status
 *   guest receive PORT             check what arrives against the pattern, and count
 *   guest echo PORT                the same, and send it back
 *   guest answer PORT              send every datagram back to where it came from
 *   guest send ADDRESS PORT RATE   send the pattern at RATE bytes/s for ever, over one connection
 *   guest memory MIB RATE          keep a working set, verify all of it every few seconds, rewrite RATE bytes/s
 *   guest unique MIB SEED          keep data that only this guest has, half random and half text; verify it likewise
 *   guest write MIB RATE SEED      make RATE bytes/s of a random buffer dirty, a few bytes in each page
 *   guest disk PATH MIB RATE SEED  keep files of such data, rewrite RATE bytes/s of them, read them back and verify
 *   guest report                   print all counters, one JSON object a line
 *
 * The pattern is that of `pattern.h`. Each role is a process of its own, each counter a file mapped into memory: that
 * keeps the loops short and the counters readable at any moment. Under emulation wake-ups cost more than bytes:
 * everything works in ticks of 100 ms, and datagrams are answered as many at a time as there are.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"

enum { TICKS = 10, PAGE = 4096, SWEEP_TICKS = 50, MIB = 1 << 20 };
enum { WORDS = PAGE / sizeof(uint64_t), FILE_PAGES = MIB / PAGE, VOCABULARY = 512, LONGEST = 12 };
static const char *COUNTERS = "/run/traffic";

struct counters {
  uint64_t bytes, errors, connections, sweeps;
};

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static struct counters *open_counters(const char *role, const char *peer) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s %s", COUNTERS, role, peer);
  int fd = open(path, O_RDWR | O_CREAT, 0644);
  if (fd < 0 || ftruncate(fd, sizeof(struct counters))) fail(path);
  struct counters *c = mmap(0, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (c == MAP_FAILED) fail("mmap");
  close(fd);
  return c;
}

static void sleep_until_next_tick(struct timespec *next) {
  struct timespec now;
  next->tv_nsec += 1000000000 / TICKS;
  if (next->tv_nsec >= 1000000000) next->tv_nsec -= 1000000000, next->tv_sec++;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (now.tv_sec > next->tv_sec + 1) *next = now; /* we were stopped: don't make up for it */
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, 0);
}

static int write_all(int fd, const unsigned char *data, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t n = write(fd, data + done, length - done);
    if (n <= 0) return -1;
    done += (size_t)n;
  }
  return 0;
}

/* --- serving: a process a connection ----------------------------------------------------------- */

static void serve(int port, void (*handle)(int fd, const char *peer)) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  int yes = 1, server = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(server, (void *)&at, sizeof at) || listen(server, 32)) fail("listen");
  signal(SIGCHLD, SIG_IGN);
  for (;;) {
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    int fd = accept(server, (void *)&from, &size);
    if (fd < 0) continue;
    if (fork() == 0) {
      char peer[INET_ADDRSTRLEN];
      close(server);
      signal(SIGCHLD, SIG_DFL);
      handle(fd, inet_ntop(AF_INET, &from.sin_addr, peer, sizeof peer));
      exit(0);
    }
    close(fd);
  }
}

static void run_commands(int fd, const char *peer) {
  (void)peer;
  FILE *lines = fdopen(dup(fd), "r");
  char *line = 0;
  size_t room = 0;
  while (lines && getline(&line, &room, lines) > 0) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
      int nothing = open("/dev/null", O_RDONLY);
      dup2(nothing, 0), dup2(fd, 1), dup2(fd, 2), close(fd);
      execl("/bin/sh", "sh", "-c", line, (char *)0);
      _exit(127);
    }
    waitpid(child, &status, 0);
    dprintf(fd, "%c%d\n", 0, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  }
}

static void check_stream(int fd, const char *role, const char *peer, int send_back) {
  static unsigned char buffer[PERIOD];
  struct counters *c = open_counters(role, peer);
  uint64_t offset = 0;
  ssize_t n;
  int yes = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* an echo that waits for an ACK tells of the ACK */
  c->connections++;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) {
    if (memcmp(buffer, pattern + offset % PERIOD, (size_t)n)) c->errors++;
    offset += (uint64_t)n;
    c->bytes += (uint64_t)n;
    if (send_back && write_all(fd, buffer, (size_t)n)) break;
  }
}

static void receive(int fd, const char *peer) { check_stream(fd, "receive", peer, 0); }
static void echo(int fd, const char *peer) { check_stream(fd, "echo", peer, 1); }

/* A VM that has stood still wakes up to hundreds of datagrams at once: none of them may be lost for want of room. */
static void answer(int port) {
  enum { BATCH = 64, LONGEST_DATAGRAM = 2048, ROOM = 8 * MIB };
  static unsigned char data[BATCH][LONGEST_DATAGRAM];
  static struct sockaddr_in from[BATCH];
  struct mmsghdr message[BATCH];
  struct iovec piece[BATCH];
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  int room = ROOM, fd = socket(AF_INET, SOCK_DGRAM, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  if (bind(fd, (void *)&at, sizeof at)) fail("bind");
  for (;;) {
    for (int i = 0; i < BATCH; i++) {
      piece[i] = (struct iovec){data[i], LONGEST_DATAGRAM};
      message[i].msg_hdr = (struct msghdr){
          .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &piece[i], .msg_iovlen = 1};
    }
    int count = recvmmsg(fd, message, BATCH, MSG_WAITFORONE, 0);
    for (int i = 0; i < count; i++) piece[i].iov_len = message[i].msg_len;
    for (int done = 0, n; done < count; done += n)
      if ((n = sendmmsg(fd, message + done, (unsigned)(count - done), 0)) < 1) n = 1; /* nobody there: as if lost */
  }
}

/* --- sending ----------------------------------------------------------------------------------- */

static void send_for_ever(const char *peer, int port, uint64_t rate) {
  struct counters *c = open_counters("send", peer);
  struct sockaddr_in to4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  int by6 = strchr(peer, ':') != NULL, family = by6 ? AF_INET6 : AF_INET;
  struct sockaddr *to = by6 ? (void *)&to6 : (void *)&to4;
  socklen_t length = by6 ? sizeof to6 : sizeof to4;
  size_t burst = rate / TICKS < 1 ? 1 : rate / TICKS > PERIOD ? PERIOD : rate / TICKS;
  if (inet_pton(family, peer, by6 ? (void *)&to6.sin6_addr : (void *)&to4.sin_addr) != 1) fail(peer);
  signal(SIGPIPE, SIG_IGN);
  for (;;) {
    int fd = socket(family, SOCK_STREAM, 0);
    if (connect(fd, to, length) == 0) {
      struct timespec next;
      uint64_t offset = 0;
      c->connections++;
      clock_gettime(CLOCK_MONOTONIC, &next);
      while (write_all(fd, pattern + offset % PERIOD, burst) == 0) {
        offset += burst;
        c->bytes += burst;
        sleep_until_next_tick(&next);
      }
      c->errors++;
    }
    close(fd);
    sleep(1);
  }
}

/* --- a working set ----------------------------------------------------------------------------- */

static uint64_t mixed(uint64_t page, uint64_t generation, uint64_t word) {
  uint64_t x = page * 0x9e3779b97f4a7c15u + generation * 0xc2b2ae3d27d4eb4fu + word;
  x ^= x >> 29;
  return x * 0xbf58476d1ce4e5b9u;
}

static void *allocate(size_t bytes) {
  void *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("memory");
  return memory;
}

static void keep_memory(size_t mib, uint64_t rate) {
  struct counters *c = open_counters("memory", "-");
  size_t pages = mib * MIB / PAGE, at = 0, to_visit = pages / SWEEP_TICKS + 1;
  uint64_t(*memory)[WORDS] = allocate(pages * PAGE);
  uint64_t *generation = allocate(pages * sizeof *generation);
  struct timespec next;
  for (size_t p = 0; p < pages; p++)
    for (size_t w = 0; w < WORDS; w++) memory[p][w] = mixed(p, 0, w);
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (double budget = 0;; sleep_until_next_tick(&next)) {
    budget += (double)rate / TICKS;
    for (size_t i = 0; i < to_visit; i++) {
      int wrong = 0;
      for (size_t w = 0; w < WORDS; w++) wrong |= memory[at][w] != mixed(at, generation[at], w);
      c->errors += (uint64_t)wrong;
      if (budget >= PAGE) {
        budget -= PAGE;
        c->bytes += PAGE;
        generation[at]++;
        for (size_t w = 0; w < WORDS; w++) memory[at][w] = mixed(at, generation[at], w);
      }
      if (++at == pages) at = 0, c->sweeps++;
    }
    if (budget > PAGE) budget = PAGE; /* faster than a sweep: that is all there is */
  }
}

/* --- data that only this guest has ------------------------------------------------------------- */

static uint64_t random_word(uint64_t seed, uint64_t number) { /* splitmix64 */
  uint64_t x = seed * 0xd1342543de82ef95u + (number + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

static void make_text(char *text, size_t size, uint64_t seed) {
  static char words[VOCABULARY][LONGEST + 1]; /* the same in all guests, as a language is */
  for (int i = 0; i < VOCABULARY && !words[VOCABULARY - 1][0]; i++)
    for (size_t l = 0, length = 2 + random_word(0, i) % (LONGEST - 1); l < length; l++)
      words[i][l] = (char)('a' + random_word(1, i * LONGEST + l) % 26);
  for (size_t done = 0, n = 0; done < size; n++) {
    uint64_t luck = random_word(seed, n);
    const char *word = words[(luck % VOCABULARY) * (luck >> 32 & 0xff) >> 8]; /* some come more often */
    for (; *word && done < size; word++) text[done++] = *word;
    if (done < size) text[done++] = luck >> 40 & 7 ? ' ' : '\n';
  }
}

/* Fill pages, every other one with text. */
static void make_own(uint64_t (*memory)[WORDS], size_t pages, uint64_t seed) {
  for (size_t p = 0; p < pages; p++)
    if (p % 2) make_text((char *)memory[p], PAGE, seed + p * 0x9e3779b9u);
    else
      for (size_t w = 0; w < WORDS; w++) memory[p][w] = random_word(seed, p * WORDS + w);
}

static uint64_t sum_of(const uint64_t *words, size_t count) {
  uint64_t sum = 0xcbf29ce484222325u;
  for (size_t w = 0; w < count; w++) sum = (sum ^ words[w]) * 0x100000001b3u, sum ^= sum >> 32;
  return sum;
}

static void keep_unique(size_t mib, uint64_t seed) {
  struct counters *c = open_counters("unique", "-");
  size_t pages = mib * MIB / PAGE, at = 0, to_visit = pages / SWEEP_TICKS + 1;
  uint64_t(*memory)[WORDS] = allocate(pages * PAGE), *sums = allocate(pages * sizeof *sums);
  struct timespec next;
  make_own(memory, pages, seed);
  for (size_t p = 0; p < pages; p++) sums[p] = sum_of(memory[p], WORDS);
  c->bytes = pages * PAGE;
  for (clock_gettime(CLOCK_MONOTONIC, &next);; sleep_until_next_tick(&next))
    for (size_t i = 0; i < to_visit; i++) {
      c->errors += sum_of(memory[at], WORDS) != sums[at];
      if (++at == pages) at = 0, c->sweeps++;
    }
}

/* The n-th visit finds in a page what the visit one round before left there: its number, and a word made of it. */
static void write_for_ever(size_t mib, uint64_t rate, uint64_t seed) {
  struct counters *c = open_counters("write", "-");
  size_t pages = mib * MIB / PAGE;
  uint64_t(*memory)[WORDS] = allocate(pages * PAGE), visit = 0;
  struct timespec next;
  for (size_t p = 0; p < pages; p++)
    for (size_t w = 1; w < WORDS; w++) memory[p][w] = random_word(seed, w == 1 ? 0 : p * WORDS + w);
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (double budget = 0;; sleep_until_next_tick(&next))
    for (budget += (double)rate / TICKS; budget >= PAGE; budget -= PAGE) {
      uint64_t p = visit % pages, *page = memory[p], left = visit < pages ? 0 : visit - pages + 1;
      int wrong = page[0] != left || page[1] != random_word(seed, left);
      for (size_t w = 2; w < WORDS; w++) wrong |= page[w] != random_word(seed, p * WORDS + w);
      page[0] = ++visit, page[1] = random_word(seed, visit);
      c->errors += (uint64_t)wrong;
      c->bytes += PAGE;
      c->sweeps += visit % pages == 0;
    }
}

/* --- files ------------------------------------------------------------------------------------- */

static int write_file(const char *path, uint64_t seed, uint64_t *sum) {
  static uint64_t data[FILE_PAGES][WORDS];
  char unfinished[256];
  snprintf(unfinished, sizeof unfinished, "%s.new", path);
  make_own(data, FILE_PAGES, seed);
  int fd = open(unfinished, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  int failed = fd < 0 || write_all(fd, (unsigned char *)data, sizeof data) || fsync(fd);
  if (fd >= 0) close(fd);
  *sum = sum_of(data[0], FILE_PAGES * WORDS);
  return failed || rename(unfinished, path) ? -1 : 0;
}

static int file_is(const char *path, uint64_t sum) {
  static uint64_t data[FILE_PAGES][WORDS];
  size_t done = 0;
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 0;
  posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* what the disk has, not what memory remembers */
  for (ssize_t n; done < sizeof data && (n = read(fd, (char *)data + done, sizeof data - done)) > 0;) done += (size_t)n;
  close(fd);
  return done == sizeof data && sum_of(data[0], FILE_PAGES * WORDS) == sum;
}

/* One file of 1 MiB is verified each second, and one rewritten as often as the rate says. */
static void keep_files(const char *folder, size_t files, uint64_t rate, uint64_t seed) {
  struct counters *c = open_counters("disk", "-");
  uint64_t *sums = allocate(files * sizeof *sums), written = 0, visited = 0;
  char path[200];
  struct timespec next;
  mkdir(folder, 0755);
  clock_gettime(CLOCK_MONOTONIC, &next);
  for (double budget = (double)files * MIB;; sleep_until_next_tick(&next)) {
    for (budget += (double)rate / TICKS; budget >= MIB; budget -= MIB, written++) {
      snprintf(path, sizeof path, "%s/%zu", folder, (size_t)(written % files));
      c->errors += write_file(path, seed + (written << 32), &sums[written % files]) != 0;
      c->bytes += MIB;
    }
    if (visited++ % TICKS) continue;
    size_t at = visited / TICKS % files;
    snprintf(path, sizeof path, "%s/%zu", folder, at);
    c->errors += !file_is(path, sums[at]);
    c->sweeps += at == files - 1;
  }
}

/* --- reporting --------------------------------------------------------------------------------- */

static void report(void) {
  DIR *all = opendir(COUNTERS);
  struct dirent *one;
  while (all && (one = readdir(all))) {
    char role[32], peer[64];
    if (sscanf(one->d_name, "%31s %63s", role, peer) != 2) continue;
    struct counters *c = open_counters(role, peer);
    printf("{\"role\": \"%s\", \"peer\": \"%s\", \"bytes\": %llu, \"errors\": %llu, \"connections\": %llu, "
           "\"sweeps\": %llu}\n", role, peer, (unsigned long long)c->bytes, (unsigned long long)c->errors,
           (unsigned long long)c->connections, (unsigned long long)c->sweeps);
  }
}

int main(int count, char **words) {
  const char *role = count > 1 ? words[1] : "";
  make_pattern();
  if (!strcmp(role, "commands") && count == 3) serve(atoi(words[2]), run_commands);
  else if (!strcmp(role, "receive") && count == 3) serve(atoi(words[2]), receive);
  else if (!strcmp(role, "echo") && count == 3) serve(atoi(words[2]), echo);
  else if (!strcmp(role, "answer") && count == 3) answer(atoi(words[2]));
  else if (!strcmp(role, "send") && count == 5) send_for_ever(words[2], atoi(words[3]), strtoull(words[4], 0, 10));
  else if (!strcmp(role, "memory") && count == 4) keep_memory(strtoull(words[2], 0, 10), strtoull(words[3], 0, 10));
  else if (!strcmp(role, "unique") && count == 4) keep_unique(strtoull(words[2], 0, 10), strtoull(words[3], 0, 10));
  else if (!strcmp(role, "write") && count == 5)
    write_for_ever(strtoull(words[2], 0, 10), strtoull(words[3], 0, 10), strtoull(words[4], 0, 10));
  else if (!strcmp(role, "disk") && count == 6)
    keep_files(words[2], strtoull(words[3], 0, 10), strtoull(words[4], 0, 10), strtoull(words[5], 0, 10));
  else if (!strcmp(role, "report") && count == 2) report();
  else return fprintf(stderr, "guest: I don't know how to do that\n"), 2;
  return 0;
}

/* What runs in a lab guest: a command server, checked traffic, a checked echo and a checked working set.
 *
 *   guest commands PORT            run each line that a connection brings; answer output, NUL, exit status
 *   guest receive PORT             check what arrives against the pattern, and count
 *   guest echo PORT                the same, and send it back
 *   guest send ADDRESS PORT RATE   send the pattern at RATE bytes/s for ever, over one connection
 *   guest memory MIB RATE          keep a working set, verify all of it every few seconds, rewrite RATE bytes/s
 *   guest report                   print all counters, one JSON object a line
 *
 * The pattern is PERIOD bytes of a linear congruential generator, repeated; the byte at offset i of a connection
 * is pattern[i % PERIOD]. PERIOD is prime, so that lost or doubled segments of any usual size show. Each role is a
 * process of its own, each counter a file mapped into memory: that keeps the loops short and the counters readable
 * at any moment. Under emulation wake-ups cost more than bytes: everything works in ticks of 100 ms.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD = 65521, TICKS = 10, PAGE = 4096, SWEEP_TICKS = 50 };
static const char *COUNTERS = "/run/traffic";
static unsigned char pattern[2 * PERIOD]; /* twice, so that any PERIOD bytes of it are contiguous */

struct counters {
  uint64_t bytes, errors, connections, sweeps;
};

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void make_pattern(void) {
  uint32_t x = 1;
  for (int i = 0; i < PERIOD; i++) {
    x = x * 1103515245u + 12345u;
    pattern[i] = pattern[i + PERIOD] = (unsigned char)(x >> 16);
  }
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

/* --- sending ----------------------------------------------------------------------------------- */

static void send_for_ever(const char *peer, int port, uint64_t rate) {
  struct counters *c = open_counters("send", peer);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  size_t burst = rate / TICKS < 1 ? 1 : rate / TICKS > PERIOD ? PERIOD : rate / TICKS;
  inet_pton(AF_INET, peer, &to.sin_addr);
  signal(SIGPIPE, SIG_IGN);
  for (;;) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)&to, sizeof to) == 0) {
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

static void keep_memory(size_t mib, uint64_t rate) {
  enum { WORDS = PAGE / sizeof(uint64_t) };
  struct counters *c = open_counters("memory", "-");
  size_t pages = mib * (1 << 20) / PAGE, at = 0, to_visit = pages / SWEEP_TICKS + 1;
  uint64_t(*memory)[WORDS] = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint64_t *generation = calloc(pages, sizeof *generation);
  struct timespec next;
  if (memory == MAP_FAILED || !generation) fail("memory");
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
  else if (!strcmp(role, "send") && count == 5) send_for_ever(words[2], atoi(words[3]), strtoull(words[4], 0, 10));
  else if (!strcmp(role, "memory") && count == 4) keep_memory(strtoull(words[2], 0, 10), strtoull(words[3], 0, 10));
  else if (!strcmp(role, "report") && count == 2) report();
  else return fprintf(stderr, "guest: I don't know how to do that\n"), 2;
  return 0;
}

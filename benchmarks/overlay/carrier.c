/* Carries frames between two taps, as a hypervisor does between its guest's ring and its tap: `carrier FD FD`.
 *
 * Each read and write is a frame with its virtio header, up to 64 KB where segments are still to be made. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { LONGEST = 70000, AT_ONCE = 64 };

static char frame[LONGEST];

/* Carry what waits at one end, but not so much that the other one starves. */
static int carry(int from, int to)
{
    for (int count = 0; count < AT_ONCE; count++) {
        ssize_t length = read(from, frame, LONGEST);
        if (length < 0)
            return errno == EAGAIN ? 0 : -1;
        if (write(to, frame, length) < 0 && errno != EAGAIN && errno != EIO)
            return -1; /* EIO: the other end isn't up */
    }
    return 0;
}

int main(int count, char **words)
{
    if (count != 3)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int fds[2] = {atoi(words[1]), atoi(words[2])};
    struct pollfd ends[2] = {{fds[0], POLLIN, 0}, {fds[1], POLLIN, 0}};
    while (poll(ends, 2, -1) > 0)
        for (int end = 0; end < 2; end++) {
            if (ends[end].revents & POLLIN && carry(fds[end], fds[!end]) < 0)
                return 1;
            if (ends[end].revents & ~POLLIN)
                return 0; /* a tap is gone */
        }
    return 1;
}

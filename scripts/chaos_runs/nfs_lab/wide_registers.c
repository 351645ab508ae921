/* Preloaded into user-mode Linux 6.1, whose buffer for a guest's registers is smaller than those of CPUs with AMX: Linux
 * refuses to set a part of them ("ptrace set fp regs failed, errno = 14"). Sets them whole; the part that user-mode
 * Linux does not know (the AMX tile configuration) is zero, as guests do not use it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

static char whole[1 << 16];
static size_t whole_size;

long ptrace(enum __ptrace_request request, ...)
{
    static long (*real)(enum __ptrace_request, pid_t, void *, void *);
    va_list arguments;
    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *), *data = va_arg(arguments, void *);
    va_end(arguments);
    if (!real)
        real = (long (*)(enum __ptrace_request, pid_t, void *, void *))dlsym(RTLD_NEXT, "ptrace");
    if ((long)address != NT_X86_XSTATE || (request != PTRACE_GETREGSET && request != PTRACE_SETREGSET))
        return real(request, pid, address, data);

    struct iovec *part = data, all = {whole, sizeof whole};
    if (request == PTRACE_GETREGSET || !whole_size) {
        long failed = real(PTRACE_GETREGSET, pid, address, &all);
        if (failed)
            return failed;
        whole_size = all.iov_len;
    }
    if (part->iov_len > whole_size)
        part->iov_len = whole_size;
    if (request == PTRACE_GETREGSET) {
        memcpy(part->iov_base, whole, part->iov_len);
        return 0;
    }
    memset(whole, 0, whole_size);
    memcpy(whole, part->iov_base, part->iov_len);
    all.iov_len = whole_size;
    return real(PTRACE_SETREGSET, pid, address, &all);
}

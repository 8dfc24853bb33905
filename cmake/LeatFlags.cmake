# SPDX-License-Identifier: MIT
# leat_flags(target): language level, warnings and hardening of our own targets. Everything is PRIVATE:
# nothing reaches whoever links leat, and no global flag is touched.
include(CheckCCompilerFlag)
include(CheckLinkerFlag)

set(LEAT_WARNINGS -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wformat=2 -Wvla
    -Wcast-align)
set(LEAT_C_WARNINGS -Wstrict-prototypes -Wmissing-prototypes) # g++ does not know them

# gcc clears a struct of more than a few words by `rep stos`, which takes longer to begin than a poll
# takes for a message; a few plain stores do it in no time.
set(LEAT_SPEED_FLAGS "")
set(leat_memset -mmemset-strategy=unrolled_loop:256:noalign,libcall:-1:noalign)
check_c_compiler_flag(${leat_memset} LEAT_HAS_MEMSET_STRATEGY)
if(LEAT_HAS_MEMSET_STRATEGY)
    set(LEAT_SPEED_FLAGS ${leat_memset})
endif()

# Left out: -ftrivial-auto-var-init=zero, which writes every local array once more on the hot path.
set(LEAT_HARDEN_FLAGS "")
set(LEAT_HARDEN_LINK "")
if(LEAT_HARDEN AND NOT CMAKE_C_FLAGS MATCHES "-fsanitize")
    foreach(flag -fstack-protector-strong -fstack-clash-protection -fcf-protection=full -fno-plt)
        string(MAKE_C_IDENTIFIER "LEAT_HAS${flag}" has)
        check_c_compiler_flag(${flag} ${has})
        if(${has})
            list(APPEND LEAT_HARDEN_FLAGS ${flag})
        endif()
    endforeach()
    list(APPEND LEAT_HARDEN_FLAGS -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
    foreach(flag -z,relro -z,now -z,noexecstack)
        string(MAKE_C_IDENTIFIER "LEAT_HAS_LINK${flag}" has)
        check_linker_flag(C "LINKER:${flag}" ${has})
        if(${has})
            list(APPEND LEAT_HARDEN_LINK "LINKER:${flag}")
        endif()
    endforeach()
endif()

function(leat_flags target)
    set_target_properties(${target} PROPERTIES
        C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF
        C_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_compile_options(${target} PRIVATE ${LEAT_WARNINGS}
        "$<$<COMPILE_LANGUAGE:C>:${LEAT_C_WARNINGS};${LEAT_SPEED_FLAGS}>"
        $<$<BOOL:${LEAT_WERROR}>:-Werror>
        "$<$<CONFIG:Release,RelWithDebInfo>:${LEAT_HARDEN_FLAGS}>")
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "EXECUTABLE" OR type STREQUAL "SHARED_LIBRARY")
        target_link_options(${target} PRIVATE
            "$<$<CONFIG:Release,RelWithDebInfo>:${LEAT_HARDEN_LINK}>")
    endif()
endfunction()

# SPDX-License-Identifier: MIT
# Headers, libraries, a CMake package and a pkg-config file, in the standard places and nowhere else.
include(CMakePackageConfigHelpers)

set(LEAT_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/leat)
install(FILES ${PROJECT_SOURCE_DIR}/include/leat.h ${PROJECT_SOURCE_DIR}/include/leat_test.h
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS ${LEAT_LIBRARIES} EXPORT leatTargets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT leatTargets NAMESPACE leat:: DESTINATION ${LEAT_CMAKE_DIR})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/leatConfig.cmake.in
    ${PROJECT_BINARY_DIR}/leatConfig.cmake INSTALL_DESTINATION ${LEAT_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/leatConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/leatConfig.cmake ${PROJECT_BINARY_DIR}/leatConfigVersion.cmake
    DESTINATION ${LEAT_CMAKE_DIR})

# leat.pc is written at install time: `cmake --install --prefix` may name another place than the configuration did,
# and LIBDIR may be absolute.
install(CODE "
    set(PROJECT_VERSION \"${PROJECT_VERSION}\")
    set(PROJECT_DESCRIPTION \"${PROJECT_DESCRIPTION}\")
    get_filename_component(CMAKE_INSTALL_FULL_LIBDIR \"${CMAKE_INSTALL_LIBDIR}\" ABSOLUTE
        BASE_DIR \"\${CMAKE_INSTALL_PREFIX}\")
    get_filename_component(CMAKE_INSTALL_FULL_INCLUDEDIR \"${CMAKE_INSTALL_INCLUDEDIR}\" ABSOLUTE
        BASE_DIR \"\${CMAKE_INSTALL_PREFIX}\")
    configure_file(\"${PROJECT_SOURCE_DIR}/cmake/leat.pc.in\" \"${PROJECT_BINARY_DIR}/leat.pc\" @ONLY)")
install(FILES ${PROJECT_BINARY_DIR}/leat.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# .\run.ps1 ARGS    the same as `holdfast ARGS`, in the project's own environment: migrate, verify, jobs, keys.
#                   (Workers and the local Postgres need Linux or macOS.)
# Where Windows does not let scripts run: powershell -ExecutionPolicy Bypass -File run.ps1 ARGS
$ErrorActionPreference = "Stop"
# An exit code is ours to judge, in every PowerShell.
$PSNativeCommandUseErrorActionPreference = $false
$root = $PSScriptRoot
$venv = Join-Path $root ".venv"
$python = Join-Path $venv "Scripts\python.exe"
$holdfast = Join-Path $venv "Scripts\holdfast.exe"
$stamp = Join-Path $venv ".holdfast-stamp"

# What the environment was made from: when that changes, it is made anew.
function Get-Definition {
    $files = "pyproject.toml", "requirements.lock" | ForEach-Object { Join-Path $root $_ }
    (Get-FileHash -Algorithm SHA256 -LiteralPath $files | ForEach-Object { $_.Hash }) -join " "
}

# Whether a program ran and ended well. Its words go nowhere: where errors stop a script, PowerShell 5.1 takes the first
# redirected line of a program's standard error for one.
function Test-Program([string] $program, [string[]] $arguments) {
    if (-not (Get-Command $program -ErrorAction SilentlyContinue)) { return $false }
    $ErrorActionPreference = "Continue"
    $global:LASTEXITCODE = 1
    try { & $program @arguments >$null 2>$null } catch { return $false }
    $LASTEXITCODE -eq 0
}

# The program, and what it is given first: a name on the PATH may be a shim for a version that is not installed.
function Find-Python {
    $isNew = "-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    foreach ($version in "-3.13", "-3.12", "-3.11", "-3") {
        if (Test-Program "py" (@($version) + $isNew)) { return "py", $version }
    }
    foreach ($program in "python", "python3") {
        if (Test-Program $program $isNew) { return @($program) }
    }
    throw "Python 3.11 or newer is needed and none was found: winget install Python.Python.3.12"
}

function Initialize-Environment {
    Write-Host "Setting up the environment (first run only)..."
    if (-not (Test-Program $python @("-c", "pass"))) {
        $program, $first = Find-Python
        # What was made with a Python that is gone is made anew.
        if (Test-Path -LiteralPath $venv) { Remove-Item -LiteralPath $venv -Recurse -Force }
        & $program @($first | Where-Object { $_ }) -m venv $venv
        if ($LASTEXITCODE -ne 0) { throw "the virtual environment could not be made in $venv" }
    } elseif (-not (Test-Program $python @("-m", "pip", "--version"))) {
        & $python -m ensurepip --upgrade
        if ($LASTEXITCODE -ne 0) { throw "pip could not be put into $venv; remove that folder, and run this again" }
    }
    $pip = @("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps")
    & $python @pip --require-hashes --requirement (Join-Path $root "requirements.lock")
    if ($LASTEXITCODE -ne 0) { throw "the packages of requirements.lock could not be installed" }
    & $python @pip --no-build-isolation --editable $root
    if ($LASTEXITCODE -ne 0) { throw "Holdfast itself could not be installed" }
    Set-Content -LiteralPath $stamp -Value (Get-Definition)
}

$isThere = (Test-Path -LiteralPath $holdfast) -and (Test-Path -LiteralPath $stamp)
if (-not ($isThere -and (Get-Content -LiteralPath $stamp) -eq (Get-Definition))) { Initialize-Environment }
& $holdfast @args
exit $LASTEXITCODE
